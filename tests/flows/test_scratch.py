"""Folders for the files of a step."""

import os

from flows.scratch import scratch_folder


def test_a_step_has_a_folder_and_what_killed_runs_left_is_removed(tmp_path):
    """A folder of our name and a day old goes; a young one, and what another program put there, stay."""
    scratch = tmp_path / "scratch"
    for name, is_old in (("step-01234567", True), ("step-0123abcd", False), ("notes", True)):
        (scratch / name).mkdir(parents=True)
        (scratch / name / "file").write_text("")
        if is_old:
            os.utime(scratch / name, (1, 1))

    with scratch_folder(tmp_path) as folder:
        (folder / "file").write_text("")
        assert {path.name for path in scratch.iterdir()} == {folder.name, "step-0123abcd", "notes"}

    assert {path.name for path in scratch.iterdir()} == {"step-0123abcd", "notes"}
