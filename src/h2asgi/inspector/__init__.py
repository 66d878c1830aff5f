"""``--inspect``: a page that shows what the server's connections do.

``port`` is what the server starts: a further port with the application of ``page``, which answers
those that ``access`` lets in. ``log`` keeps what ``observer``, one for each connection, sees, and
``recorder`` has them see while somebody looks. ``records`` says what that is, ``masking`` what of
it is never kept, ``har`` how it is exported.
"""
