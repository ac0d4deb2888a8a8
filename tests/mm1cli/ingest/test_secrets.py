import importlib.util
from pathlib import Path

import pytest

from mm1cli.ingest import Block, Reason, read_corpus
from mm1cli.ingest.path_filter import PathFilter
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
HEX = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
MIX = "aZ3kQ9xL2mN8vB5cR7tY1uW4eH6gJ0pS" * 4
KEYED = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYzzkq9Tz3Lq"
PEM = "PRIVATE KEY-----"
KINDS = [
    "AKIA" + "Q3EGU7KJ2MZXV5TB", "ASIA" + "Q3EGU7KJ2MZXV5TB", f"aws_secret_access_key = {KEYED}",
    f"AWS_SECRET_ACCESS_KEY={KEYED}", f'"SecretAccessKey": "{KEYED}"',
    f"aws_session_token={KEYED}{KEYED}", "LTAI" + MIX[:20],
    f'{{"private_key": "-----BEGIN {PEM}\\nMIIEvQIBADANBgkqhkiG9w0BAQEF\\n-----END"}}',
    f"-----BEGIN RSA {PEM} MIIEowIBAAKCAQEAxyz123MIIEowIBAAKCAQEAxyz123 -----END RSA {PEM}",
    f"-----BEGIN RSA {PEM}\nMIIEowIBAAKCAQEAxyz123",
    f"-----BEGIN EC {PEM}\nMHcCAQEEIIrYSSNQFaA2Hwf",
    f"-----BEGIN OPENSSH {PEM}\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmU",
    f"-----BEGIN PGP {PEM[:-5]} BLOCK-----\nlQOYBF0kMhUBCADR3XZ9q0JvT1", "PuTTY-User-Key-File-3: x",
    f"-----BEGIN ENCRYPTED {PEM}\nMIIFDjBABgkqhkiG9w0BBQ0wMz", f"client-key-data: {MIX[:80]}",
    f"PrivateKey = {MIX[:43]}=", f"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.{MIX[:43]}",
    f"Authorization: Bearer {MIX[:40]}", "Authorization: Basic " + "cm9vdDpUcjB1YjRkb3ImMw==",
    "DB_PASS=correcthorse", "MYSQL_PWD=hunterfour", "PGPASSWORD='two words here'",
    "export ADMIN_PASSWORD=Tr0ub4dor # for now", "db_password: correcthorsebattery",
    'password = "correcthorsebattery"', "redis://:correcthorse@cache:6379/0",
    "postgres://me:Tr0ub4dor@db/x", "mysql://root:correcthorse@db/x", "amqp://a:Tr0ub4dor@mq/",
    "mongodb+srv://me:Tr0ub4dor@cluster.mongodb.net/x", "ftp://me:Tr0ub4dor@files/",
    "https://me:Tr0ub4dor@host/", "Server=db;Database=x;User Id=sa;Password=Tr0ub4dor&3;",
    "Driver={SQL};Server=db;Uid=sa;Pwd=Tr0ub4dor;", "db.local:5432:shop:me:Tr0ub4dor",
    "machine files.local login me password Tr0ub4dor", '"auth": "bWU6VHIwdWI0ZG9yJjM="',
    "//registry.npmjs.org/:_authToken=" + MIX[:36], "npm_" + MIX[:36], "xapp-1-" + MIX[:40],
    "xoxb-1234567890-abcdef", "xoxp-1234567890-abcdef",
    "https://hooks.slack.com/services/T0AB12CD3/B0AB12CD3/" + MIX[:24], "GOCSPX-" + MIX[:28],
    "AIza" + "Sy9_-" * 7, "ya29." + MIX[:60], "dop_v1_" + HEX, "hvs." + MIX[:28],
    "shpat_" + HEX[:32],
    "dapi" + HEX[:32], "SK" + HEX[:32], "123456789:AA" + MIX[:33],
    "glsa_" + MIX[:32] + "_" + HEX[:8],
    "ATATT3xFfGF0" + MIX[:60], "whsec_" + MIX[:32], "ghp_" + MIX[:36], "gho_" + MIX[:36],
    "github_pat_" + MIX[:82], "glpat-" + MIX[:20], "ATBB" + MIX[:32], "sk_live_" + MIX[:24],
    "rk_live_" + MIX[:24], "sk-proj-" + MIX[:48], "sk-ant-" + MIX[:40], "gsk_" + MIX[:52],
    "xai-" + MIX[:80], "r8_" + MIX[:37], "hf_" + MIX[:34], "pypi-AgE" + MIX[:80],
    "rubygems_" + HEX[:48], "dckr_pat_" + MIX[:27], "SG." + MIX[:22] + "." + MIX[:43],
    "key-" + HEX[:32], HEX[:32] + "-us12", "AccountKey=" + MIX[:86] + "==",
    "https://x/y?sv=2022-11-02&ss=b&sig=" + MIX[:44], "sq0atp-" + MIX[:22],
    MIX[:14] + ".atlasv1." + MIX[:67], "sntrys_" + MIX[:60], "NRAK-" + MIX[:27],
    f"PMAK-{HEX[:24]}-{HEX[:34]}", "lin_api_" + MIX[:40], "ntn_" + MIX[:46], "figd_" + MIX[:40],
    "pat-na1-9f86d081-884c-7d65-9a2f-eaa0c55ad015", f"pat{MIX[:14]}.{HEX}", "sbp_" + HEX[:40],
    "AGE-SECRET-KEY-1" + "Q3EGU7KJ2MZXV5TB" * 3 + "Q3EGU7KJ2M", "root:$6$abcdefgh$" + MIX[:86],
    "sshpass -p Tr0ub4dor ssh me@host", "curl -u me:Tr0ub4dor https://host",
    f'client_secret: "{MIX[:24]}"', f"DD_API_KEY={HEX[:32]}", f"CLOUDFLARE_API_TOKEN={MIX[:40]}",
]  # fmt: skip
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
    "password: required",
    "DB_PASSWORD=changeme # your own",
    "    password=password,",
    "API_KEY=<your key>",
    "AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
    "Authorization: Bearer <token>",
    "postgres://user:password@localhost/db",
    "std::map:5432:x",
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
    root = tree({"a.md": "fine", "b.conf": f"x=1\nKEY={FOUND['GitHub token']}\n"})
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


def test_of_the_usual_kinds_hardly_one_is_missed():
    """Red: a document with a key is read into a context that is saved."""
    assert len(KINDS) >= 85
    assert [kind for kind in KINDS if not list(find_secrets((Block(f"x\n{kind}\ny"),)))] == []


@pytest.mark.parametrize("package", ["starlette", "requests", "pip"])
def test_real_programs_hold_none(package):
    """Red: the sources of a web framework are left out as if they held keys."""
    root = Path(importlib.util.find_spec(package).origin).parent
    files = [path for path in sorted(root.rglob("*.py")) if path.stat().st_size < 50_000][:120]
    assert len(files) > 15
    found = {str(f): list(find_secrets((Block(f.read_text(errors="replace")),))) for f in files}
    assert {name: secrets for name, secrets in found.items() if secrets} == {}


@pytest.mark.parametrize("name", ["prod.env", "service.env.local", "env"])
def test_of_a_file_of_settings_only_the_values_are_left_out(tree, monkeypatch, name):
    """Red: nobody can ask which settings a service has, or a value is read."""
    lines = [
        "# by hand: k33p",
        "DEBUG=yes",
        f"export API_KEY={MIX[:32]}",
        "",
        'CERT="first',
        'k3y"',
    ]
    root = tree({name: "\n".join(lines) + "\n"})
    monkeypatch.chdir(root)
    (document,) = read_corpus(["."]).documents
    (block,) = document.blocks
    assert block.text.splitlines()[:5] == [
        "#", "DEBUG=[left out]", "export API_KEY=[left out]", "", "CERT=[left out]",
    ]  # fmt: skip
    assert "k3" not in block.text and "values are left out" in document.warnings[0]
    allowed = read_corpus(["."], options=ReadOptions(allow_secrets=True))
    assert "k33p" in allowed.documents[0].blocks[0].text


@pytest.mark.parametrize(
    "line",
    [
        "DB_PASSWD=correcthorsebat",
        "GPG_PASSPHRASE=correcthorsebat",
        f"PresharedKey = {MIX[:43]}=",
        f"awsSecretKey={MIX[:40]}",
        "db.example.org:6543:app:me:Tr0ub4dor",
    ],
)
def test_each_form_of_a_format_has_a_hint(line):
    """Red: a pattern is never tried, as no hint stands in the text that it is for."""
    assert find_secrets([Block(f"a = 1\n{line}\n")])


def test_private_files_are_read_if_named_and_left_out_of_folders(tmp_path):
    """Red: `mm1 analyze /etc` reads password hashes in silence, or a file one names is refused."""
    (tmp_path / "etc").mkdir()
    (tmp_path / ".ssh").mkdir()
    files = [tmp_path / "etc/shadow", tmp_path / ".ssh/config", tmp_path / ".netrc"]
    for file in files:
        file.write_text("daemon:*:19000:0:99999:7:::\n")
    (tmp_path / "etc/shadow.txt").write_text("Of shadows.\n")
    hidden = PathFilter.of((), (), hidden=True)
    corpus = read_corpus([str(tmp_path)], options=ReadOptions(path_filter=hidden))
    assert [Path(one.path).name for one in corpus.documents] == ["shadow.txt"]
    assert {one.reason for one in corpus.omissions} == {Reason.SECRET}
    assert all("looks private: " in one.detail for one in corpus.omissions)
    named = read_corpus(list(map(str, files)))
    assert [len(one.warnings) for one in named.documents] == [1, 1, 1]
    assert named.documents[0].warnings[0].startswith("looks private: a system's password hashes")
    allowed = ReadOptions(path_filter=hidden, allow_secrets=True)
    assert len(read_corpus([str(tmp_path)], options=allowed).documents) == 4
