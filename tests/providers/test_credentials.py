from __future__ import annotations

from pathlib import Path

import pytest

from providers.credentials import CredentialUnusable, resolve
from providers.errors import InvalidCredential


def test_a_reference_to_the_environment_is_read_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPSTREAM_KEY", " sk-1\n")
    assert resolve(ref="env:UPSTREAM_KEY", secret="stored") == "sk-1"
    monkeypatch.setenv("UPSTREAM_KEY", "sk-2")
    assert resolve(ref="env:UPSTREAM_KEY", secret="stored") == "sk-2"


def test_a_reference_to_a_file_is_read_without_its_last_line_end(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sk-file\r\n")
    assert resolve(ref=f"file:{tmp_path / 'key'}", secret="") == "sk-file"


def test_without_a_reference_the_stored_secret_is_used() -> None:
    assert resolve(ref="", secret="sk-stored\n") == "sk-stored"


def test_a_provider_may_have_no_credential() -> None:
    assert resolve(ref="", secret="") == ""


@pytest.mark.parametrize("ref", ["env:NOT_SET_ANYWHERE", "env:EMPTY", "file:/nowhere/at/all"])
def test_a_missing_credential_is_named_to_the_administrator_only(ref: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMPTY", " \n")
    with pytest.raises(CredentialUnusable) as caught:
        resolve(ref=ref, secret="sk-stored")
    name = ref.partition(":")[2]
    assert name in caught.value.detail
    assert name not in str(caught.value)
    assert isinstance(caught.value, InvalidCredential)
    assert "sk-stored" not in f"{caught.value}{caught.value.detail}"


@pytest.mark.parametrize("ref", ["env:", "file:", "vault:secret/x", "sk-stored"])
def test_a_reference_of_another_form_is_refused(ref: str) -> None:
    with pytest.raises(CredentialUnusable) as caught:
        resolve(ref=ref, secret="sk-stored")
    assert caught.value.detail == "A credential reference is env:NAME or file:PATH."


@pytest.mark.parametrize("value", ["sk-a\nX-Injected: 1", "sk-a\rb", "sk-\x01", "sk-\x7f", "sk-\u20ac", "sk-\x85b"])
def test_a_value_that_cannot_stand_in_a_header_is_refused_without_being_shown(value: str, tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(value.encode())
    for ref, secret in (("", value), (f"file:{tmp_path / 'key'}", "")):
        with pytest.raises(CredentialUnusable) as caught:
            resolve(ref=ref, secret=secret)
        assert "sk-" not in f"{caught.value}{caught.value.detail}"


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CredentialUnusable, match="missing or unusable") as caught:
        resolve(ref=f"file:{tmp_path / 'key'}", secret="")
    assert "not text" in caught.value.detail
