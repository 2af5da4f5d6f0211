"""A recovery share as a page for paper: HTML without anything from elsewhere, on one A4 sheet."""

from __future__ import annotations

import html
import time

from .hpke import HpkeIdentity
from .shares import Share

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="robots" content="noindex">
<title>Recovery share {number} of {count}</title>
<style>
@page {{ size: A4; margin: 20mm }}
body {{ font: 11pt/1.4 serif; color: #000; background: #fff; max-width: 170mm; margin: auto }}
h1 {{ font-size: 18pt }}
ol {{ font: 13pt/1.7 monospace; columns: 3; border: 1pt solid; padding: 5mm 5mm 5mm 18mm }}
th {{ text-align: left; padding-right: 8mm; font-weight: normal }}
p.secret {{ font-weight: bold }}
@media print {{ ol, table {{ break-inside: avoid }} }}
</style>
</head>
<body>
<h1>Recovery share {number} of {count}</h1>
<p class="secret">Secret. Whoever holds any {threshold} of the {count} shares holds the key.</p>
<table>
<tr><th>Identity</th><td>{hint} ({algorithm})</td></tr>
<tr><th>Set</th><td>{set_id}</td></tr>
<tr><th>Split on</th><td>{date}</td></tr>
<tr><th>Needed</th><td>any {threshold} of {count} shares</td></tr>
</table>
<ol>
{words}
</ol>
<h2>Keep</h2>
<p>On paper, sealed, where fire and water do not come, and away from the other shares. One share
alone tells nothing of the key. Do not photograph it, do not send it. Try once a year, with
{threshold} of the holders, whether the shares still give the key back.</p>
<h2>When the key is lost</h2>
<p>Bring {threshold} shares together at a trusted computer that is off the network:</p>
<pre>dicomcrypt key combine - -o restored.key</pre>
<p>and type the words of each share in their order, the {total} words of one share on a line. The
program says if a word is wrong, and must name the identity {hint}. Without this program: the
words are a SLIP-39 share without passphrase, and the secret is the byte 1, a byte for the kind of
key ({kind}), and the 32 bytes of the private key.</p>
</body>
</html>
"""


def share_page(share: Share, identity: HpkeIdentity, date: str | None = None) -> str:
    """Return the page of one share. It is secret. date: ISO 8601, today by default."""
    return _PAGE.format(
        number=share.number, count=share.count, threshold=share.threshold,
        hint=identity.recipient.hint.hex(), algorithm=html.escape(identity.algorithm),
        kind=identity.recipient.stanza_type, set_id=f"{share.set_id:04x}",
        date=date or time.strftime("%Y-%m-%d"), total=len(share.words),
        words="\n".join(f"<li>{html.escape(word)}</li>" for word in share.words),
    )  # fmt: skip
