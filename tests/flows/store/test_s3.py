"""A store in S3, over HTTP: faults and habits of servers, pages and error messages."""

import io
import time

import pytest
import urllib3
from botocore.awsrequest import AWSResponse

from flows.records import VersionRef
from flows.store.base import PROBE, StoreError
from flows.store.lists import append, get_object, get_record, put_object
from flows.store.open import open_store
from flows.store.s3 import ATTEMPTS, Bucket


@pytest.fixture(autouse=True)
def hurried(monkeypatch):
    """boto3 does not wait between the tries of a request."""
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0)


def test_an_object_lies_below_the_prefix_and_no_header_names_an_encryption(bucket, s3):
    """The location is the object's address; what S3 does by default is not asked for."""
    seen = []
    s3.refuse = lambda environ: seen.extend(environ)

    bucket.put("a/b.json", b"x")
    bucket.upload("objects/x", io.BytesIO(b"x"))

    assert s3.client.get_object(Bucket=s3.bucket, Key="some/prefix/a/b.json")["Body"].read() == b"x"
    assert bucket.location("a/b.json") == f"s3://{s3.bucket}/some/prefix/a/b.json"
    assert "HTTP_IF_NONE_MATCH" in seen
    assert [name for name in seen if "ENCRYPTION" in name] == []


def test_an_object_has_a_page_in_the_console_and_s3_a_clock(bucket, s3):
    """The console's address names bucket and key; the clock is that of the endpoint."""
    console = "https://s3.console.aws.amazon.com/s3/object"

    assert bucket.console_url("a/b.json") == f"{console}/{s3.bucket}?prefix=some/prefix/a/b.json"
    assert bucket.clock_url == s3.url


def test_s3_lists_to_the_last_page(bucket, s3):
    """More keys than a page of S3 holds are all listed, and another prefix's are not."""
    bucket.page_keys = 10
    for i in range(25):
        s3.client.put_object(Bucket=s3.bucket, Key=f"some/prefix/list/{i:06d}.json", Body=b"")
    s3.client.put_object(Bucket=s3.bucket, Key="some/prefix2/list/x.json", Body=b"")
    s3.requests.clear()

    assert list(bucket.keys("list/")) == [f"list/{i:06d}.json" for i in range(25)]
    assert len(s3.requests) == 3


@pytest.mark.parametrize("fault", ["500", "503", "reset", "lost", "409"])
@pytest.mark.parametrize("times", [1, 2])
def test_a_put_survives_what_s3_does(used, s3, fault, times):
    """A put that failed, was throttled, refused, cut, or whose answer was lost is written once, as ours."""
    s3.faults += [fault] * times

    assert append(used, "list/", 0, VersionRef(version="mine"))
    assert not append(used, "list/", 0, VersionRef(version="another's"))
    assert get_record(used, "list/000001.json", VersionRef).version == "mine"
    assert s3.faults == []


def test_a_lost_answer_does_not_make_anothers_entry_ours(used, s3):
    """If the key was taken before, a repeated put still reports that it came second."""
    append(used, "list/", 0, VersionRef(version="another's"))
    s3.faults += ["lost"]

    assert not append(used, "list/", 0, VersionRef(version="mine"))
    assert get_record(used, "list/000001.json", VersionRef).version == "another's"


@pytest.mark.parametrize("fault", ["500", "503", "reset", "cut"])
def test_a_get_and_a_list_survive_what_s3_does(used, s3, fault):
    """An object and a list arrive complete or are asked for again; so does what an upload sends."""
    s3.faults += [fault] if fault != "cut" else []
    digest = put_object(used, b"weights" * 100_000)
    s3.faults += [fault]
    assert get_object(used, digest) == b"weights" * 100_000
    s3.faults += [fault]
    assert list(used.keys("objects/")) == [f"objects/{digest}"]
    assert s3.faults == []


@pytest.mark.parametrize(("fault", "words"), [("503", "503 SlowDown"), ("reset", "AWS_ENDPOINT_URL")])
def test_s3_that_stays_down_is_a_retryable_error(used, s3, fault, words):
    """After the last attempt the error names the object and says that a later run may succeed."""
    s3.faults[:] = [fault] * ATTEMPTS

    with pytest.raises(StoreError, match=f"some/prefix/a.*{words}") as caught:
        used.put("a", b"x")

    assert caught.value.retryable
    assert used.get("a") is None


def test_a_server_that_sends_no_date_has_no_clock(bucket, monkeypatch):
    """Nothing is known to be old there, so nothing is deleted."""
    monkeypatch.setattr("flows.store.s3._sent_at", lambda _answer: None)

    with pytest.raises(StoreError, match="sent no date") as caught:
        bucket.now()

    assert "`Date`" in caught.value.remedy


def test_a_bucket_that_does_not_exist_is_named(s3):
    """A missing bucket says which setting names it, and that trying again will not help."""
    with pytest.raises(
        StoreError, match=r"s3://absent/probe/create-only: S3 answered 404 NoSuchBucket"
    ) as caught:
        open_store("s3://absent").put("a", b"")

    assert "MNIST_STORE" in caught.value.remedy
    assert not caught.value.retryable


def test_missing_permissions_are_named(bucket, s3):
    """S3's refusal names the permissions that the job needs."""
    s3.faults += ["403"]

    with pytest.raises(StoreError, match="403 AccessDenied") as caught:
        bucket.put("a", b"x")

    assert "s3:PutObject" in caught.value.remedy


def test_missing_credentials_are_named(s3, monkeypatch, tmp_path):
    """Without credentials the error names the AWS variables."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))

    with pytest.raises(StoreError, match="check the AWS variables"):
        open_store(f"s3://{s3.bucket}").put("a", b"")


# Servers with habits of their own, each played by the front of a real one


def test_a_store_that_overwrites_is_refused_at_its_first_use(start_s3):
    """A server that ignores `If-None-Match` is refused by every process, before its first write."""
    s3 = start_s3("moto")
    address = f"s3://{s3.bucket}/store"

    for write in (lambda store: store.put("a", b"x"), lambda store: store.upload("b", io.BytesIO(b"x"))):
        s3.faults[:] = ["overwrite", "overwrite"]
        with pytest.raises(StoreError, match="overwrote an object") as caught:
            write(open_store(address))
        assert "two runs could both submit" in caught.value.remedy
        assert not caught.value.retryable
        assert s3.faults == []

    assert list(open_store(address).keys("")) == [PROBE]


def test_the_first_write_of_a_process_costs_one_request_more(bucket, s3):
    """The object that a store must refuse to write again is there from the first process on."""
    bucket.put("a", b"x")
    s3.requests.clear()

    fresh = open_store(bucket.location(""))
    for number in range(3):
        assert fresh.put(f"b{number}", b"x")

    assert len(s3.requests) == 4
    assert s3.requests[0].endswith(f"/some/prefix/{PROBE}")


def test_a_gateway_that_repeats_a_put_does_not_make_our_own_entry_anothers(bucket, s3):
    """A refusal is believed only if other bytes are there: boto3 does not know of the repetition."""
    bucket.prepare()
    s3.faults += ["twice"]

    assert append(bucket, "list/", 0, VersionRef(version="mine"))
    assert s3.faults == []


def test_uploads_that_killed_writers_began_are_ended(bucket, s3):
    """Such parts are invisible and cost money; those of a living writer, and of others, stay."""
    for key in ("some/prefix/objects/x", "another/y"):
        s3.client.create_multipart_upload(Bucket=s3.bucket, Key=key)

    def uploads():
        return [u["Key"] for u in s3.client.list_multipart_uploads(Bucket=s3.bucket).get("Uploads", ())]

    before = time.time() - 60 if s3.name == "seaweedfs" else 0  # moto says 2010 of every upload
    bucket.delete_partials(before)
    assert sorted(uploads()) == ["another/y", "some/prefix/objects/x"]
    bucket.delete_partials(time.time() + 60)
    assert uploads() == ["another/y"]
    s3.faults += ["403"]
    bucket.delete_partials(time.time() + 60)


def test_over_https_no_checksum_follows_the_data(monkeypatch):
    """Servers that know no trailers would refuse each write: the headers name the data alone."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://s3.invalid")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(name, "us-east-1")
    monkeypatch.setattr("flows.store.s3.ONE_PART_BYTES", 0)
    bucket, sent = Bucket("bucket", "prefix"), []

    def answer(request, **_):
        sent.append({name.lower(): str(value) for name, value in request.headers.items()})
        status = 412 if request.url.endswith(PROBE) else 200
        return AWSResponse(request.url, status, {}, urllib3.HTTPResponse(io.BytesIO()))

    bucket._s3.meta.events.register("before-send.s3", answer)
    assert bucket.put("a", b"x")
    assert not bucket.upload("objects/x", io.BytesIO(b"weights"))

    assert len(sent) == 3
    assert {headers.get("content-encoding") for headers in sent} <= {None}
    assert [name for headers in sent for name in headers if "checksum" in name or "trailer" in name] == []


def test_a_server_that_cannot_do_something_else_is_not_told_of_create_only(bucket, s3):
    """The remedy about `If-None-Match` belongs to the request that has it."""
    s3.refuse = lambda _environ: ("501", "NotImplemented", "not implemented", "")

    with pytest.raises(StoreError, match="501 NotImplemented") as caught:
        bucket.keys("a/")

    assert "If-None-Match" not in caught.value.remedy


REGION = "<Region>eu-central-1</Region>"
HABITS = {
    "no create-only": (
        lambda environ: "HTTP_IF_NONE_MATCH" in environ,
        ("501", "NotImplemented", "A header you provided implies functionality that is not implemented", ""),
        "If-None-Match",
    ),
    "an encryption header": (
        lambda environ: "HTTP_X_AMZ_SERVER_SIDE_ENCRYPTION" not in environ,
        ("403", "AccessDenied", "not authorized, with an explicit deny in a resource-based policy", ""),
        "make that encryption the bucket's default",
    ),
    "an encryption key": (
        lambda environ: "HTTP_X_AMZ_SERVER_SIDE_ENCRYPTION_CUSTOMER_KEY" not in environ,
        ("400", "InvalidEncryptionMethodError", "The encryption method specified is not supported", ""),
        "bucket's default",
    ),
    "another region": (
        lambda environ: "/us-east-1/" in environ["HTTP_AUTHORIZATION"],
        ("400", "AuthorizationHeaderMalformed", "the region 'us-east-1' is wrong", ""),
        "AWS_DEFAULT_REGION",
    ),
    "a region that does not exist": (
        lambda environ: True,
        ("403", "InvalidRegionName", "The region 'us-east-1' is unknown", ""),
        "AWS_DEFAULT_REGION",
    ),
    "the bucket in the host name": (
        lambda environ: environ["HTTP_HOST"].startswith("127."),
        ("403", "SecondLevelDomainForbidden", "Please use virtual hosted style to access.", ""),
        "addressing_style = virtual",
    ),
}
"""What a server wants: which requests it refuses, its answer, and a part of the remedy."""


@pytest.mark.parametrize("habit", HABITS)
def test_a_server_with_other_habits_is_refused_at_once_in_its_own_words(s3, habit):
    """The error has the server's message and the remedy, and nothing tries again."""
    refuses, answer, remedy = HABITS[habit]
    s3.refuse = lambda environ: answer if refuses(environ) else None

    with pytest.raises(StoreError) as caught:
        open_store(f"s3://{s3.bucket}/store").put("a", b"x")

    assert f"S3 answered {answer[0]} {answer[1]} ({answer[2]})" in caught.value.problem
    assert remedy in caught.value.remedy
    assert not caught.value.retryable
    puts = [request for request in s3.requests if request.startswith("PUT")]
    assert len(puts) == 1


def test_a_server_that_names_its_region_is_written_to(s3):
    """If the refusal names the region, the request is signed for that one instead."""
    refuses, answer, _ = HABITS["another region"]
    s3.refuse = lambda environ: (*answer[:3], REGION) if refuses(environ) else None

    assert open_store(f"s3://{s3.bucket}/store").put("a", b"x")


@pytest.mark.parametrize("variable", ["ALL_PROXY", "HTTP_PROXY", "all_proxy"])
def test_s3_is_reached_through_the_proxy_of_the_environment(s3, socks_proxy, monkeypatch, variable):
    """boto3 passes over ALL_PROXY and knows no SOCKS; the store goes through it, large objects too."""
    host, port = "127.0.0.9", int(s3.url.rpartition(":")[2])  # where nobody listens
    proxy = socks_proxy({host: ("127.0.0.1", port)})
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv(variable, proxy.url)

    store = open_store(f"s3://{s3.bucket}/p")
    store.put("a.json", b"{}")
    store.upload("objects/x", io.BytesIO(bytes(9 << 20)))

    assert store.get("a.json") == b"{}"
    assert set(proxy.asked) == {host}


def test_a_host_in_no_proxy_and_a_dead_proxy_are_told_apart(s3, socks_proxy, monkeypatch):
    """A host of NO_PROXY is reached without the proxy; a proxy that refuses is an error with a remedy."""
    proxy = socks_proxy({})
    monkeypatch.setenv("ALL_PROXY", proxy.url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    open_store(f"s3://{s3.bucket}/p").put("a.json", b"{}")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://s3.example")

    with pytest.raises(StoreError, match="HTTPS_PROXY or ALL_PROXY if one is set"):
        open_store(f"s3://{s3.bucket}/p").get("a.json")

    assert set(proxy.asked) == {"s3.example"}
