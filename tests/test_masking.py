"""What is taken out of words that are kept."""

import logging

import pytest

from raycnn.masking import MASK, MaskingFormatter, is_secret_name, masked
from raycnn.storage import refusal


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("cannot open s3://AKIA:wJalr@bucket/x now", f"cannot open s3://{MASK}@bucket/x now"),
        ("s3://AKIA:wJalr/K7MD@bucket", f"s3://{MASK}@bucket"),  # keys of AWS have slashes
        ("http://user:word@host:80/api", f"http://{MASK}@host:80/api"),
        ("s3://b/x?region=eu&secret_key=wJalr", f"s3://b/x?region=eu&secret_key={MASK}"),
        ("https://a.blob/x?sig=abc&se=2", f"https://a.blob/x?sig={MASK}&se=2"),
        ("http://127.0.0.1:8265 and a@b.org", "http://127.0.0.1:8265 and a@b.org"),
        ("hdfs://host:9000/runs@night", "hdfs://host:9000/runs@night"),
        ("abfs://container@account/x", "abfs://container@account/x"),
    ],
)
def test_passwords_go_and_the_rest_stays(text, left):
    assert masked(text) == left


@pytest.mark.parametrize("uri", ["s3://K:wJalr/K7MD@b/x", "s3://b/x?secret_key=wJalr", "gs://b?access_token=ya29"])
def test_a_uri_with_a_secret_is_refused_without_being_repeated(uri):
    reason = refusal(uri)
    assert "password" in reason
    assert not any(part in reason for part in ("wJalr", "ya29"))


def test_values_of_secret_variables_go_from_what_is_logged(monkeypatch):
    monkeypatch.setenv("SOME_API_KEY", "0123456789")
    monkeypatch.setenv("SHORT_TOKEN", "on")  # stands in other words
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/home/a/token-place")
    record = logging.LogRecord("a", logging.INFO, "", 0, "sent 0123456789 from /home/a/token-place, on time", (), None)
    assert MaskingFormatter().format(record) == f"sent {MASK} from /home/a/token-place, on time"


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        *((name, True) for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SECURITY_TOKEN")),
        *((name, True) for name in ("AWS_SESSION_TOKEN", "WANDB_API_KEY", "HF_TOKEN", "MLFLOW_TRACKING_PASSWORD")),
        *((name, True) for name in ("AZURE_STORAGE_KEY", "AZURE_STORAGE_CONNECTION_STRING", "AZURE_CLIENT_SECRET")),
        *((name, False) for name in ("RAY_AUTH_TOKEN_PATH", "KEYBOARD", "TOKENIZERS_PARALLELISM", "PATH", "PASSAGE")),
        *((name, False) for name in ("RAY_CHDIR_TO_TRIAL_DIR", "RAY_TRAIN_V2_ENABLED")),
    ],
)
def test_which_variables_are_secrets(name, secret):
    assert is_secret_name(name) is secret
