"""A mail server as a process of its own: STARTTLS, and a Maildir for what it takes.

    python mail_server.py MAILDIR TLS.pem|- PORT-FILE        - : without STARTTLS

A {} in MAILDIR stands for the address of the recipient, who then has a Maildir alone.
"""

import asyncio
import mailbox
import re
import ssl
import sys
from pathlib import Path

#: What may become the name of a folder.
ADDRESS = re.compile(r"[a-z]+@[a-z.]+")


class Keeper:
    """Puts every mail into a Maildir as it came: others' servers write no mail anew either."""

    def __init__(self, maildir: str) -> None:
        self._maildir = maildir

    async def handle_DATA(self, server, session, envelope) -> str:
        for address in envelope.rcpt_tos:
            if not ADDRESS.fullmatch(address):
                return "553 no such mailbox"
            mailbox.Maildir(self._maildir.format(address)).add(envelope.original_content)
        return "250 OK"


async def main(maildir: str, pem: str, port_file: str) -> None:
    from aiosmtpd.smtp import SMTP

    context = None
    if pem != "-":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
    loop = asyncio.get_running_loop()
    handler = Keeper(maildir)
    server = await loop.create_server(
        lambda: SMTP(handler, tls_context=context, require_starttls=context is not None,
                     hostname="mail.test", loop=loop),
        "127.0.0.1", 0,
    )
    part = Path(port_file + ".part")
    part.write_text(str(server.sockets[0].getsockname()[1]))
    part.rename(port_file)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
