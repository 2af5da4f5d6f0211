"""One-time passwords, secured links, and how they are delivered (docs/otp.md).

    home.create("otp/")                       keys, settings, database
    parts = Home("otp/")
    parts.service.request_code(name, token=token, address=address)
    parts.outbox.deliver()
    parts.service.open(name, {"code": ..., "sum": ...}, token=token, address=address)

It is imported module by module: the database needs the extra `otp`.
"""
