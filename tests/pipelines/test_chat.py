"""The chat against a local double of the Bot API: who is answered, with what, and that the token is nowhere."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from lake.errors import ConfigError, ForedriftError
from pipelines.scheduled.chat import Chat, take_token

TOKEN = "123456:secret-of-the-bot"
MINE, OTHER = 42, 666


class Double(BaseHTTPRequestHandler):
    """getUpdates with an offset and sendMessage, as the Bot API documents them."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        bot, method = self.path.split("/")[1:]
        server = self.server
        if bot != f"bot{TOKEN}":
            self._say(401, {"ok": False, "error_code": 401, "description": "Unauthorized"})
        elif method == "getUpdates":
            self._say(200, {"ok": True, "result": [u for u in server.updates if u["update_id"] >= body["offset"]]})
        else:
            server.sent.append(body)
            self._say(200, {"ok": True, "result": {}})

    def _say(self, status, data):
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(data).encode())

    def log_message(self, *_):
        pass


@pytest.fixture
def api():
    server = HTTPServer(("127.0.0.1", 0), Double)
    server.updates, server.sent = [], []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def chat(api, token=TOKEN, **commands):
    said = {"/status": lambda _: "fine", "/stop": lambda reason: f"stopped: {reason}", **commands}
    return Chat(f"http://127.0.0.1:{api.server_port}", token, (MINE,), said)


def message(number, text, who=MINE, where=None):
    return {"update_id": number, "message": {"from": {"id": who}, "chat": {"id": where or who}, "text": text}}


def test_people_on_the_list_are_answered_once_and_nobody_else(api):
    api.updates = [
        message(1, "/status"), message(2, "/stop the pools look odd"), message(3, "/stop", OTHER),
        message(4, "/status", MINE, where=-100), message(5, "hello"), message(6, "/status@my_bot"),
        {"update_id": 7, "edited_message": {}},
    ]  # fmt: skip
    mine = chat(api)
    assert mine.poll(0) == 4
    assert [s["chat_id"] for s in api.sent] == [MINE] * 4
    assert [s["text"] for s in api.sent] == ["fine", "stopped: the pools look odd", "I know /status, /stop", "fine"]
    assert mine.poll(0) == 0


def test_what_fails_is_said_without_its_details_and_the_token_is_in_no_error(api):
    def broken(_):
        raise ForedriftError("/secret/path is gone")

    assert "/secret" not in chat(api, **{"/next": broken}).answer("/next")
    with pytest.raises(ForedriftError, match="refused getUpdates with status 401") as refused:
        chat(api, token="wrong-token").poll(0)
    assert "wrong-token" not in repr(refused.value)
    gone = Chat("http://127.0.0.1:1", TOKEN, (MINE,), {})
    with pytest.raises(ForedriftError, match="did not answer getUpdates") as silent:
        gone.poll(0)
    assert TOKEN not in repr(silent.value) + repr(silent.value.__cause__)
    assert TOKEN not in repr(gone)


def test_the_token_leaves_the_environment_and_its_file_is_private(monkeypatch, tmp_path):
    monkeypatch.setenv("FOREDRIFT_TELEGRAM_TOKEN", TOKEN)
    assert take_token() == TOKEN
    assert take_token() is None
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    monkeypatch.setenv("FOREDRIFT_TELEGRAM_TOKEN_FILE", str(file))
    file.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        take_token()
    file.chmod(0o600)
    assert take_token() == TOKEN
