"""What keys, tokens and passwords look like: formats that their issuers publish, as a table.

Prefixes and lengths are facts that scanners such as gitleaks and detect-secrets list, too; none of
their text is here. Every format begins with something its issuer put there to be found, or is a
literal assigned to a name that says what it is.
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Format:
    """One of `hints` stands in any text with such a secret; in any case if it has no capitals."""

    name: str
    hints: tuple[str, ...]
    pattern: re.Pattern[str]


def _format(name: str, hints: str, pattern: str, flags: re.RegexFlag = re.NOFLAG) -> Format:
    return Format(name, tuple(hints.split()), re.compile(pattern, flags))


def _prefixed(name: str, prefixes: str, rest: str) -> Format:
    """A token that begins with one of `prefixes`, then what `rest` matches."""
    begin = "|".join(map(re.escape, prefixes.split()))
    return _format(name, prefixes, rf"(?<![\w-])(?:{begin}){rest}(?![\w-])")


_NAMES = (
    r"(?:passw(?:or)?d|passwort|passphrase|(?<![a-z])(?:pwd|pass|secret(?:_?(?:access_?)?key)?"
    r"|(?:client|app|shared)_?secret|(?:private|encryption|signing|account|master|license)_?key"
    r"|api[_-]?key|(?:auth|access|refresh|session|api|bot)?_?token|_auth|credentials?))"
)
_SEPARATOR = r"[\"']?[ \t]{0,4}(?:=|:|:=|=>)[ \t]{0,4}"
_COMMENT = r"[ \t]*(?:#[^\n]*|//[^\n]*)?$"

FORMATS = (
    _format(
        "private key",
        "private",
        r"-----BEGIN (?:[A-Z0-9]{1,20} ){0,3}PRIVATE KEY(?: BLOCK)?-----"
        r"(?=[^-]{0,40}(?:\n|\\n|\\r)[ \t>|]*[A-Za-z0-9+/=:]{16}| ?[A-Za-z0-9+/=]{40})",
    ),
    _format("private key", "putty-user", r"\bPuTTY-User-Key-File-[23]:"),
    _format(
        "private key", "client-key-data", r"\bclient-key-data:[ \t]*(?P<value>[A-Za-z0-9+/]{64,}=*)"
    ),
    _format(
        "WireGuard key",
        "privatekey presharedkey",
        r"(?i)\b(?:PrivateKey|PresharedKey) ?= ?[A-Za-z0-9+/]{43}="
    ),
    _format("AWS access key", "akia asia", r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    _format(
        "AWS secret key",
        "secret_key secretkey secret_access secretaccess session_token sessiontoken",
        r"(?i)\b(?:aws_?)?(?:secret_?access_?key|secret_?key|session_?token)[\"']?[ \t]{0,4}[=:]"
        r"[ \t]{0,4}[\"']?(?P<key>[A-Za-z0-9/+]{40,}={0,2})(?![A-Za-z0-9/+])",
    ),
    _prefixed("Alibaba key", "LTAI", r"[A-Za-z0-9]{20}"),
    _prefixed("GitHub token", "ghp_ gho_ ghu_ ghs_ ghr_", r"[A-Za-z0-9]{36,255}"),
    _prefixed("GitHub token", "github_pat_", r"\w{60,255}"),
    _prefixed("GitLab token", "glpat- gldt- glrt- glptt- glcbt-", r"[A-Za-z0-9_.-]{20,}"),
    _prefixed("Bitbucket token", "ATBB ATCTT", r"[A-Za-z0-9_=-]{24,}"),
    _prefixed("Atlassian token", "ATATT", r"[A-Za-z0-9_=-]{40,}"),
    _format("Slack token", "xox", r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}"),
    _prefixed("Slack token", "xapp-", r"\d-[A-Za-z0-9-]{20,}"),
    _format("Slack webhook", "hooks.slack", r"hooks\.slack\.com/services/T\w{6,}/B\w{6,}/\w{16,}"),
    _format("Teams webhook", "webhook.office", r"\w+\.webhook\.office\.com/webhookb2/[\w@-]{36,}"),
    _format(
        "Discord webhook", "api/webhooks", r"discord(?:app)?\.com/api/webhooks/\d{17,}/[\w-]{50,}"
    ),
    _format("Discord token", ".", r"\b[MNO][A-Za-z\d_-]{23,27}\.[\w-]{6}\.[\w-]{27,40}(?![\w-])"),
    _format("Telegram token", ":aa", r"(?<![\w:])\d{8,10}:AA[A-Za-z0-9_-]{33}(?![\w-])"),
    _format("Google API key", "aiza", r"\bAIza[A-Za-z0-9_-]{35}(?![\w-])"),
    _prefixed("Google client secret", "GOCSPX-", r"[A-Za-z0-9_-]{28}"),
    _prefixed("Google token", "ya29.", r"[A-Za-z0-9_-]{40,}"),
    _prefixed("Stripe key", "sk_live_ rk_live_", r"[A-Za-z0-9]{20,}"),
    _prefixed("webhook secret", "whsec_", r"[A-Za-z0-9+/]{24,}={0,2}"),
    _prefixed("Square token", "sq0atp- sq0csp- EAAAE", r"[A-Za-z0-9_-]{22,}"),
    _prefixed("Shopify token", "shpat_ shpss_ shpca_ shppa_", r"[A-Fa-f0-9]{32}"),
    _format("OpenAI key", "sk-", r"\bsk-(?:proj-|svcacct-|admin-)?[A-Za-z0-9_-]{40,}"),
    _format("Anthropic key", "sk-ant-", r"\bsk-ant-[A-Za-z0-9_-]{32,}"),
    _prefixed("Groq key", "gsk_", r"[A-Za-z0-9]{48,}"),
    _prefixed("xAI key", "xai-", r"[A-Za-z0-9]{60,}"),
    _prefixed("Perplexity key", "pplx-", r"[A-Za-z0-9]{40,}"),
    _prefixed("Replicate token", "r8_", r"[A-Za-z0-9]{37,}"),
    _prefixed("Hugging Face token", "hf_", r"[A-Za-z0-9]{34,}"),
    _prefixed("npm token", "npm_", r"[A-Za-z0-9]{36}"),
    _format("npm token", "_authtoken _auth=", r":_auth(?:Token)?=(?P<value>[^\s$\"']{16,})"),
    _prefixed("PyPI token", "pypi-AgE", r"[A-Za-z0-9_-]{50,}"),
    _prefixed("RubyGems key", "rubygems_", r"[a-f0-9]{48}"),
    _prefixed("NuGet key", "oy2", r"[a-z0-9]{43}"),
    _prefixed("Docker token", "dckr_pat_ dckr_oat_", r"[A-Za-z0-9_-]{27,}"),
    _format(
        "Docker password", '"auth"', r'"auth"\s{0,4}:\s{0,4}"(?P<value>[A-Za-z0-9+/]{16,}={0,2})"'
    ),
    _format("SendGrid key", "sg.", r"\bSG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}\b"),
    _format("Mailgun key", "key-", r"(?<![\w-])key-[a-f0-9]{32}(?![\w-])"),
    _format("Mailchimp key", "-us", r"(?<![\w-])[a-f0-9]{32}-us\d{1,2}(?!\w)"),
    _format("Twilio key", "SK", r"(?<![\w-])SK[a-f0-9]{32}(?!\w)"),
    _format("age key", "age-secret", r"\bAGE-SECRET-KEY-1[A-Z0-9]{58}\b"),
    _format("Azure storage key", "accountkey=", r"(?i)\bAccountKey=[A-Za-z0-9+/]{86}=="),
    _format("Azure SAS", "sig=", r"[?&]sv=\d{4}-[^\s\"']{0,300}&sig=[A-Za-z0-9%+/]{40,}"),
    _prefixed("DigitalOcean token", "dop_v1_ doo_v1_ dor_v1_", r"[a-f0-9]{64}"),
    _prefixed("Vault token", "hvs. hvb. hvr.", r"[A-Za-z0-9_-]{24,}"),
    _format("Terraform token", ".atlasv1.", r"\b[A-Za-z0-9]{14}\.atlasv1\.[A-Za-z0-9_=-]{60,}"),
    _prefixed("Databricks token", "dapi", r"[a-f0-9]{32}(?:-\d)?"),
    _prefixed("Grafana token", "glsa_ glc_", r"[A-Za-z0-9_+/=]{32,}"),
    _prefixed("Sentry token", "sntrys_ sntryu_", r"[A-Za-z0-9_+/=-]{40,}"),
    _prefixed("New Relic key", "NRAK- NRJS- NRII-", r"[A-Za-z0-9]{19,32}"),
    _prefixed("Postman key", "PMAK-", r"[a-f0-9]{24}-[a-f0-9]{34}"),
    _prefixed("Linear key", "lin_api_", r"[A-Za-z0-9]{40}"),
    _prefixed("Notion token", "ntn_ secret_", r"[A-Za-z0-9]{43,50}"),
    _prefixed("Figma token", "figd_", r"[A-Za-z0-9_-]{40,}"),
    _prefixed("HubSpot token", "pat-na1- pat-eu1-", r"[a-f0-9]{8}(?:-[a-f0-9]{4}){3}-[a-f0-9]{12}"),
    _format("Airtable token", "pat", r"(?<![\w-])pat[A-Za-z0-9]{14}\.[a-f0-9]{64}(?!\w)"),
    _prefixed("Supabase token", "sbp_", r"[a-f0-9]{40}"),
    _prefixed("PlanetScale token", "pscale_tkn_ pscale_pw_", r"[A-Za-z0-9_.=-]{32,}"),
    _prefixed("Netlify token", "nfp_", r"[A-Za-z0-9]{36,}"),
    _prefixed("Heroku key", "HRKU-", r"[A-Za-z0-9_-]{36,}"),
    _prefixed("Doppler token", "dp.pt. dp.st. dp.ct.", r"[A-Za-z0-9._]{40,}"),
    _prefixed("Pulumi token", "pul-", r"[a-f0-9]{40}"),
    _format("Fly token", "flyv1", r"\bFlyV1 (?:fm[12]_)[A-Za-z0-9+/=,_-]{50,}"),
    _prefixed("Dropbox token", "sl.", r"[A-Za-z0-9_-]{100,}"),
    _prefixed("Facebook token", "EAACEdEose0cBA EAAG EAAB", r"[A-Za-z0-9]{60,}"),
    _format(
        "signed token (JWT)",
        "eyj",
        r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.(?P<key>[A-Za-z0-9_-]{20,})",
    ),
    _format(
        "authorization header",
        "bearer basic",
        r"(?i)\b(?:Authorization[\"']?[ \t]{0,4}[:=][ \t]{0,4}[\"']?)?Bearer[ \t]+"
        r"(?P<bearer>[A-Za-z0-9_.~+/-]{24,}=*)"
        r"|\bAuthorization[\"']?[ \t]{0,4}[:=][ \t]{0,4}[\"']?Basic[ \t]+"
        r"(?P<basic>[A-Za-z0-9+/]{12,}=*)",
    ),
    _format(
        "password in a URL",
        "://",
        r"\b[a-z][a-z0-9+.-]{1,20}://[^\s:/@\"'<>{}$]{0,64}:(?P<url>[^\s:/@\"'<>]{6,64})@[\w.-]+",
    ),
    _format(
        "password in a connection string",
        "password= pwd=",
        r"(?i)\b(?:Server|Data Source|Host|Driver|User Id|Uid)=[^\n;]{1,80};[^\n]{0,200}?"
        r"\b(?:Password|Pwd)=(?P<value>[^\s;\"'{}$<>]{6,64})",
    ),
    _format(
        "password in .pgpass",
        ":",
        r"(?m)^[\w.*-]{1,80}:(?:\d{2,5}|\*):[\w.*-]{1,60}:[\w.*-]{1,60}:(?P<value>[^\s:]{6,64})$",
    ),
    _format(
        "password in .netrc",
        "machine",
        r"(?m)^[ \t]*machine\s+[\w.-]+\s+login\s+\S+\s+password\s+(?P<plain>\S{6,64})",
    ),
    _format(
        "password hash",
        "$",
        r"(?m)^[\w.-]{1,32}:\$(?:[1567y]|gy|2[aby]|apr1|argon2id?)\$[^\s:]{20,}",
    ),
    _format(
        "password on a command line",
        "sshpass curl --password",
        r"\bsshpass[ \t]+-p[ \t]*[\"']?(?P<plain>[^\s\"'$<]{6,64})"
        r"|\bcurl\b[^\n]{0,200}[ \t](?:-u|--user)[ \t]+[\"']?[\w.@-]{1,64}:"
        r"(?P<value>[^\s\"'$<]{6,64})"
        r"|[ \t]--password[ =][\"']?(?P<bare>[^\s\"'$<]{8,64})",
    ),
    # NAME=value, as shells and .env files have it: capitals, no space around the sign.
    _format(
        "password",
        "pass= password= passwd= passphrase= pwd=",
        r"(?m)^[ \t]*(?:export[ \t]+|set[ \t]+|-[ \t]+)?[A-Z0-9_]{0,60}"
        r"(?:PASSWORD|PASSWD|PASSPHRASE|PASS|PWD)=(?:[\"'](?P<set_quoted>[^\n\"']{6,128})[\"']"
        r"|(?P<set>[^\s\"'`<>(){}$;,]{6,128}))" + _COMMENT,
    ),
    _format(
        "password",
        "secret= token= key= _auth= credentials= credential=",
        r"(?m)^[ \t]*(?:export[ \t]+|set[ \t]+|-[ \t]+)?[A-Z0-9_]{0,60}"
        r"(?:SECRET|TOKEN|API_?KEY|SECRET_KEY|ACCESS_KEY|PRIVATE_KEY|SIGNING_KEY|ENCRYPTION_KEY|APP_KEY)="
        r"[\"']?(?P<value>[^\s\"'`<>(){}$;,]{10,256})[\"']?" + _COMMENT,
    ),
    # password: value, the line of a file of settings.
    _format(
        "password",
        "password passwd pwd passphrase",
        r"(?m)^[ \t]*(?:-[ \t]+)?[\"']?(?:[a-z0-9]{1,20}[_.-]){0,3}"
        r"(?:password|passwd|pwd|passphrase)"
        r"[\"']?[ \t]{0,4}(?:=|:)[ \t]{0,4}(?P<word>[a-z]{8,64})" + _COMMENT,
    ),
    _format(
        "password",
        "password passwd passphrase pwd secret key api_key apikey api-key token credential",
        _NAMES + _SEPARATOR
        + r"(?:[\"'](?P<quoted>[^\s\"']{8,256})[\"']"
        r"|(?P<bare>[^\s\"'`<>(){}\[\],;]{8,256})" + _COMMENT + ")",
        re.IGNORECASE | re.MULTILINE,
    ),
)  # fmt: skip
