import pytest

from mm1cli.ingest import Block, Reason, read_corpus
from mm1cli.ingest.read import ReadOptions
from mm1cli.ingest.secrets import find_secrets

# Put together here, so that no scanner takes this file for a leak.
FOUND = {
    "AWS access key": "AKIA" + "Q3EGU7KJ2MZXV5TB",
    "GitHub token": "ghp_" + "a1B2" * 9,
    "GitLab token": "glpat-" + "x9_Y" * 5,
    "Slack token": "xoxb-" + "1234567890-abcdef",
    "Google API key": "AIza" + "Sy9_-" * 7,
    "Stripe key": "sk_live_" + "4eC39HqLyjWDarjtT1zdp7dc",
    "Hugging Face token": "hf_" + "aB3d" * 9,
    "PyPI token": "pypi-AgE" + "IcHl" * 20,
    "private key": "-----BEGIN RSA " + "PRIVATE KEY-----\nMIIEowIBAAKCAQEAxyz123\n",
    "password in a URL": "postgres://admin:" + "hunter2Ab@db.local/x",
    "password": 'db_password = "' + 'tr0ub4dor&3"',
}
HARMLESS = [
    "The password must be at least 8 characters.",
    'password = "changeme"',
    'password = "<your password>"',
    "password: ${DB_PASSWORD}",
    "password = getpass.getpass()",
    "password: str = field(default_factory=make)",
    "AKIAIOSFODNN7EXAMPLE",
    "see https://example.org:8080/a@b",
    "sk-learn and the hf_hub are libraries",
    "sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "-----BEGIN CERTIFICATE-----\nMIIEowIBAAKCAQEA\n",
    "-----BEGIN PRIVATE KEY----- is how such a file begins",
    "token_ids = [1, 2, 3]",
]


@pytest.mark.parametrize(("name", "text"), FOUND.items())
def test_a_secret_is_found_with_its_line(name, text):
    """Red: a key that was left in a folder is read into a context that is saved."""
    (secret,) = find_secrets((Block(f"one\ntwo {text}\nthree\n"),))
    assert secret.name == name
    assert secret.where.startswith("line 2") or secret.where.startswith("lines 2")


@pytest.mark.parametrize("text", HARMLESS)
def test_what_only_speaks_of_secrets_is_none(text):
    """Red: manuals and sources are left out for words."""
    assert not list(find_secrets((Block(f"{text}\n"),)))


def test_a_file_with_a_secret_is_an_omission_that_says_how_to_read_it(tree, monkeypatch):
    """Red: a document is lost, and nobody learns which line did it."""
    root = tree({"a.md": "fine", "b.env": f"x=1\nKEY={FOUND['GitHub token']}\n"})
    monkeypatch.chdir(root)
    corpus = read_corpus(["."])
    assert [document.path for document in corpus.documents] == ["a.md"]
    (omission,) = corpus.omissions
    assert omission.reason is Reason.SECRET
    assert omission.detail == "line 2: GitHub token; --allow-secrets reads it"
    assert FOUND["GitHub token"] not in str(omission)
    allowed = read_corpus(["."], options=ReadOptions(allow_secrets=True))
    assert not allowed.omissions
    assert "line 2: GitHub token" in allowed.documents[1].warnings[0]
