"""The files of the pages are read once: later changes on the disk alter no answer."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from service import settings
from service.http.app import create_app
from service.http.routes import explorer
from tests.bundles import tiny_bundle

PATHS = ("/", "/docs", *(f"/page/{name}" for name in explorer._FILES if not name.endswith(".html")))


def _gone(*arguments: object, **more: object) -> None:
    raise FileNotFoundError("the file was deleted")


def test_pages_are_answered_when_their_files_are_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_bundle(tmp_path / "sentiment-bilstm")
    app = create_app(settings.read({"models": tmp_path, "provider": "cpu", "threads": 1}, _env_file=None))
    read = {f"/page/{name}": found.content for name, found in explorer._FILES.items()}
    read |= {"/": explorer._FILES[explorer.INDEX].content, "/docs": explorer._FILES[explorer.DOCS].content}

    async def main() -> None:
        transport = httpx.ASGITransport(app)
        client = httpx.AsyncClient(transport=transport, base_url="http://service")
        async with app.router.lifespan_context(app), client:
            await app.state.runtime._looked.wait()
            with monkeypatch.context() as patched:
                for reading in ("read_bytes", "read_text", "open"):
                    patched.setattr(Path, reading, _gone)
                patched.setattr("builtins.open", _gone)
                for path in PATHS:
                    answer = await client.get(path)
                    assert (answer.status_code, answer.content) == (200, read[path]), path

    assert {"/page/main.js", "/page/vendor/swagger-ui/swagger-ui.css"} <= set(PATHS)
    asyncio.run(main())
