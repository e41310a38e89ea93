"""The specification of a competition as a setting carries it, from process to process."""

from dataclasses import dataclass, field
from pathlib import Path

from mnist_core.errors import DataError
from mnist_core.spec import CompetitionSpec, parse_spec


@dataclass(frozen=True)
class SpecText:
    """The specification of a competition as text, which is the same wherever a process runs."""

    text: str = field(repr=False)
    spec: CompetitionSpec

    @classmethod
    def read(cls, value: str) -> "SpecText":
        """Return the specification of a setting: the path of its file, or if it has lines the text itself.

        Raises:
            DataError: the file cannot be read, or the specification is wrong.
        """
        if "\n" in value:
            return cls(value, parse_spec(value, "its text"))
        file = Path(value).expanduser()
        try:
            text = file.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{value}: cannot be read ({error})", "name a TOML file") from error
        return cls(text, parse_spec(text, value, file.parent))
