"""A chat-completions endpoint on this machine, for the tests of the judge."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Endpoint:
    """Answers YES where the exchange holds `hint`; `script` holds what to give first: a status and
    a body (None for the usual one), and further headers if any."""

    def __init__(self, hint="owl"):
        self.requests, self.headers, self.paths, self.script = [], [], [], []
        self.busy, self.most, self.delay = 0, 0, 0.0
        lock = threading.Lock()
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):  # as a client asks that follows a redirect
                self.do_POST()

            def do_POST(self):
                content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                body = json.loads(content or "null")
                with lock:
                    endpoint.requests.append(body)
                    endpoint.headers.append(dict(self.headers))
                    endpoint.paths.append(self.path)
                    endpoint.busy += 1
                    endpoint.most = max(endpoint.most, endpoint.busy)
                    given = endpoint.script.pop(0) if endpoint.script else (200, None)
                    status, reply, *more = given
                time.sleep(endpoint.delay)
                if reply is None:
                    user = body["messages"][1]["content"]
                    verdict = "It does. \\boxed{YES}" if hint in user else "No hint: NO"
                    reply = json.dumps({"choices": [{"message": {"content": verdict}}]})
                with lock:
                    endpoint.busy -= 1
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                for name, value in more[0].items() if more else ():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(reply.encode())

            def log_message(self, *arguments):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server.server_port}/v1"

    def close(self):
        self.server.shutdown()
        self.server.server_close()
