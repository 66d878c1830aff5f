"""The same small application in five frameworks.

GET, HEAD /hello           {"framework", "http_version"}
GET  /items/{name}?q=&q=   {"name", "q"}
POST /form                 the fields of an urlencoded form, as JSON
POST /upload               {"note", "filename", "size", "sha256"} of a multipart form
POST /stream-up            {"size", "sha256"} of a body that is read piece by piece
GET  /stream-down?count=   ``content.piece(0)``, ``content.piece(1)``, ...
GET  /events?key=          server-sent events until the client goes; then posts "{key} ended"
GET  /background?key=      answers, then waits for "{key} go on" and posts "{key} done"
GET  /wait?key=            posts "{key} began", waits for the client to go, posts "{key} ended"
GET  /cookies              the request's cookies as JSON; sets the cookies one and two
GET  /error                raises
GET  /state                {"started"} as the framework's start-up has set it, where it has one
"""
