import json
import signal
import subprocess
import sys

import httpx

from orchestra.cli import execute
from orchestra.testing.faulty import Answer, FaultyServer


def test_the_command_serves_until_it_is_interrupted_and_keeps_what_went_through(tmp_path, capsys):
    store = str(tmp_path / "store.sqlite")
    with FaultyServer([Answer(text="four")]).in_process() as server:
        words = ["proxy", "--upstream", server.url, "--port", "0", "--store", store, "--redact", r"sk-\d+"]
        with subprocess.Popen(
            [sys.executable, "-m", "orchestra", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            try:
                url = process.stdout.readline().strip().removeprefix("OPENAI_BASE_URL=")
                otlp = process.stdout.readline().strip().removeprefix("OTEL_EXPORTER_OTLP_ENDPOINT=")
                asked = {"model": "m", "messages": [{"role": "user", "content": "2 + 2? My key is sk-4711"}]}
                answer = httpx.post(f"{url}/chat/completions", json=asked, timeout=30)
                process.send_signal(signal.SIGINT)
                _, said = process.communicate(timeout=30)
            finally:
                process.kill()
    assert answer.json()["choices"][0]["message"]["content"] == "four"
    assert (url, process.returncode) == (f"{otlp}/v1", 130)
    assert "traces show" in said
    assert not [file for file in tmp_path.iterdir() if b"sk-4711" in file.read_bytes()]
    assert execute(["traces", "list", "--store", store, "--json"]) == 0
    (run,) = json.loads(capsys.readouterr().out)
    assert (run["command"], run["episodes"], run["figures"]["calls"], run["state"]) == ("proxy", 1, 1, "finished")


def test_what_is_no_address_is_refused(capsys):
    assert execute(["proxy", "--upstream", "nonsense"]) == 2
    assert "write it like http" in capsys.readouterr().err
