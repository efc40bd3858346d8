"""The local page: what it answers, what it refuses, and how it looks in a real browser, Debian's chromium."""

import http.client
import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from snakemake_runs import ROOT

from workflow_scripts.core.errors import UserError
from workflow_scripts.serving import demo
from workflow_scripts.serving.demo import LARGEST, Server, names_of, start

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
HOSTILE = "<script>window.ran = true</script><img src=x onerror='window.ran = true'>"
ARABIC = "ذهب الولد إلى المدرسة"


def runs_of(folder: Path, task: str, *sources: str) -> list[Path]:
    return [folder / "results" / "tiny" / task / source / "fine_tuning" / "seed-13" for source in sources]


@pytest.fixture(scope="module")
def servers(served_grid) -> Iterator[dict[str, Server]]:
    """A page for each task, on free ports; that of the first one has two runs."""
    folder = served_grid.folder
    started = {
        task: start(runs_of(folder, task, *sources), folder / "resources", 0)
        for task, sources in {
            "mood": ("en", "de"),
            "udpos": ("en",),
            "xquad": ("en",),
            "endings": ("en",),
            "similarity": ("en",),
        }.items()
    }
    for server in started.values():
        threading.Thread(target=server.serve_forever, daemon=True).start()
    yield started
    for server in started.values():
        server.shutdown()
        server.server_close()


def ask(server: Server, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any, Any]:
    """The status, the headers and the content of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body, sent)
    response = connection.getresponse()
    content = response.read()
    connection.close()
    is_json = response.headers.get_content_type() == "application/json"
    return response.status, response.headers, json.loads(content) if is_json else content


def post(server: Server, record: Any, **headers: str) -> tuple[int, Any]:
    status, _, content = ask(
        server, "POST", "/answer", json.dumps(record).encode(), **{"Content_Type": "application/json"} | headers
    )
    return status, content


def test_both_runs_answer_what_is_typed(servers):
    status, content = post(servers["mood"], {"text": "wow abc"})
    assert status == 200
    assert content["row"] == {"text": "wow abc"}
    english, german = content["answers"]
    assert (english["run"], german["run"]) == ("en", "de")
    assert english["prediction"] == "good"
    assert english["probabilities"] != german["probabilities"]
    assert sum(english["probabilities"].values()) == pytest.approx(1, abs=1e-5)


def test_the_description_names_the_fields_of_the_task(servers):
    shapes = {}
    for task, server in servers.items():
        _, _, content = ask(server, "GET", "/task.json")
        shapes[task] = {field["name"]: field["shape"] for field in content["fields"]}
    assert shapes == {
        "mood": {"text": "text"},
        "udpos": {"tokens": "words"},
        "xquad": {"context": "text", "question": "text"},
        "endings": {"text": "text", "choices": "list"},
        "similarity": {"text": "text", "text_pair": "text"},
    }


def test_the_port_is_open_on_this_machine_only(servers):
    assert servers["mood"].server_address[0] == "127.0.0.1"
    others = {entry[4][0] for entry in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
    for address in others - {"127.0.0.1"}:
        with pytest.raises(OSError):
            socket.create_connection((address, servers["mood"].server_port), timeout=2).close()


@pytest.mark.parametrize("path", ["/", "/task.json", "/script.js"])
def test_another_host_is_refused_so_that_no_name_can_be_pointed_at_the_server(servers, path):
    server = servers["mood"]
    for host in ("evil.example", f"evil.example:{server.server_port}", "127.0.0.1", f"127.0.0.1:{server.server_port}9"):
        assert ask(server, "GET", path, Host=host)[0] == 421
    for host in (f"127.0.0.1:{server.server_port}", f"localhost:{server.server_port}"):
        assert ask(server, "GET", path, Host=host)[0] == 200
    assert post(server, {"text": "a"}, Host="evil.example")[0] == 421


def test_a_page_of_another_origin_is_refused(servers):
    server = servers["mood"]
    for origin in ("http://evil.example", "null", f"https://127.0.0.1:{server.server_port}", "http://127.0.0.1:1"):
        assert post(server, {"text": "a"}, Origin=origin)[0] == 403
    assert post(server, {"text": "a"}, Origin=f"http://localhost:{server.server_port}")[0] == 200
    for form in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        assert post(server, {"text": "a"}, Content_Type=form)[0] == 415


def test_a_large_request_is_refused_before_it_is_read(servers):
    server = servers["mood"]
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=30) as connection:
        head = f"POST /answer HTTP/1.1\r\nHost: 127.0.0.1:{server.server_port}\r\nContent-Type: application/json\r\n"
        connection.sendall(f"{head}Content-Length: {LARGEST + 1}\r\n\r\n".encode())
        assert connection.recv(4096).startswith(b"HTTP/1.1 413 ")
    assert post(server, {"text": "wow " * (LARGEST // 8)})[0] == 200
    for length in ("-1", "9" * 100, "", "\u0661"):
        with socket.create_connection(("127.0.0.1", server.server_port), timeout=30) as connection:
            connection.sendall(f"{head}Content-Length: {length}\r\n\r\n".encode())
            assert connection.recv(4096).startswith(b"HTTP/1.1 41")


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"{", 400), (b"[1]", 400), (b"\xff", 400), (b"[" * 100_000, 400), (b'{"text": 1.5e999}', 200), (b"{}", 422)],
)
def test_what_is_no_record_of_the_task_is_refused_in_one_line(servers, body, status):
    found, _, content = ask(servers["mood"], "POST", "/answer", body, Content_Type="application/json")
    assert found == status
    if status != 200:
        assert content["error"] and "\n" not in content["error"]


def test_pages_may_load_nothing_from_elsewhere(servers):
    for path in demo.FILES:
        status, headers, content = ask(servers["mood"], "GET", path)
        assert status == 200
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert b"http://" not in content.replace(b"http://www.w3.org", b"")
        assert b"https://" not in content
    assert ask(servers["mood"], "GET", "/../demo.py")[0] == 404


def test_runs_of_different_tasks_are_refused(served_grid):
    folder = served_grid.folder
    runs = [*runs_of(folder, "mood", "en"), *runs_of(folder, "similarity", "en")]
    with pytest.raises(UserError, match="name runs of one task"):
        start(runs, folder / "resources", 0)


def test_a_taken_port_is_named(servers, served_grid):
    port = servers["mood"].server_port
    with pytest.raises(UserError, match=f"port {port} cannot be used .*--port 0"):
        start(runs_of(served_grid.folder, "mood", "en"), served_grid.folder / "resources", port)


def test_names_of_runs_are_what_tells_them_apart():
    def path(*parts: str) -> Path:
        return Path("/results", *parts)

    first = path("a", "xnli", "en", "lora", "seed-1")
    assert names_of([first]) == ["a · en · lora"]
    assert names_of([first, path("a", "xnli", "en", "bitfit", "seed-1")]) == ["lora", "bitfit"]
    assert names_of([first, path("b", "xnli", "en", "lora", "seed-2")]) == ["a · seed-1", "b · seed-2"]
    with pytest.raises(UserError, match="named twice"):
        names_of([first, first])


def test_ctrl_c_ends_the_command_quietly(served_grid):
    folder = served_grid.folder
    words = ["--resources", str(folder / "resources"), "--port", "0"]
    command = [sys.executable, "-m", "workflow_scripts.serving.demo", *map(str, runs_of(folder, "mood", "en")), *words]
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a shell's background jobs ignore it, and so their children
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        address = process.stdout.readline().split()[0]
        assert address.startswith("http://127.0.0.1:")
        connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=30)
        connection.request("GET", "/")  # a connection that the browser keeps open does not hold the server
        assert connection.getresponse().status == 200
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, rest.strip(), errors) == (0, "", "")


def typed(browser, server: Server, width: int = 1280, **fields: str) -> Any:
    """Open the page, type into its fields and press Ctrl+Enter; returns what runs a script in it."""
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import WebDriverWait

    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get_log("performance"), browser.get_log("browser")
    browser.get(f"http://127.0.0.1:{server.server_port}/")
    wait = WebDriverWait(browser, 30)
    wait.until(lambda page: page.find_elements("css selector", "textarea"))
    for name, text in fields.items():
        area = browser.find_element("name", name)
        browser.execute_script("arguments[0].value = arguments[1]", area, text)
    area.send_keys(Keys.CONTROL, Keys.ENTER)
    wait.until(lambda page: page.find_elements("css selector", ".answer, #problem:not([hidden])"))
    return browser.execute_script


def texts(ask_page: Any, selector: str) -> list[str]:
    """The texts of elements."""
    found: list[str] = ask_page(f"return [...document.querySelectorAll({selector!r})].map((one) => one.textContent)")
    return found


def test_two_runs_are_side_by_side_with_a_bar_for_each_label(servers, browser):
    ask_page = typed(browser, servers["mood"], text="wow abc")
    _, content = post(servers["mood"], {"text": "wow abc"})
    assert texts(ask_page, ".answer h2") == ["en", "de"]
    left, right = ask_page("return [...document.querySelectorAll('.answer')].map((one) => one.getBoundingClientRect())")
    assert left["top"] == right["top"] and left["right"] < right["left"]
    widths = ask_page("return [...document.querySelectorAll('.bar')].map((one) => parseFloat(one.style.width))")
    assert widths == pytest.approx([100 * p for a in content["answers"] for p in a["probabilities"].values()], abs=0.01)
    best = max(content["answers"][0]["probabilities"].values())
    assert texts(ask_page, ".answer .said .share")[0] == f"{100 * best:.1f} %"


def test_the_page_asks_this_server_alone_and_reads_no_text_as_html(servers, browser):
    ask_page = typed(browser, servers["xquad"], context=f"{HOSTILE} abc", question=HOSTILE)
    complaints = [entry["message"] for entry in browser.get_log("browser")]
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = {event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"}
    address = f"http://127.0.0.1:{servers['xquad'].server_port}/"
    assert {url for url in asked if not url.startswith((address, "data:,"))} == set()
    assert ask_page("return window.ran") is None
    assert complaints == []
    ask_page = typed(browser, servers["udpos"], tokens=HOSTILE)
    assert len(texts(ask_page, ".word")) == len(HOSTILE.split())
    # The policy alone would keep scripts from running: so the elements are counted, too.
    ask_page = typed(browser, servers["endings"], text=HOSTILE, choices=f"{HOSTILE}\n<b>bold</b>")
    assert texts(ask_page, ".named span:first-child") == [HOSTILE, "<b>bold</b>"]
    assert ask_page("return document.querySelectorAll('main img, main b, main script').length") == 0
    assert ask_page("return window.ran") is None


def test_the_answer_is_marked_in_its_context_also_after_characters_of_two_units(servers, browser):
    context = f"\U0001f642\U0001f642 abc {ARABIC} def"
    ask_page = typed(browser, servers["xquad"], context=context, question="abc?")
    _, content = post(servers["xquad"], {"context": context, "question": "abc?"})
    (answer,) = content["answers"]
    assert answer["prediction"]
    assert texts(ask_page, ".passage mark") == [answer["prediction"]]
    assert texts(ask_page, ".passage") == [context]


def test_words_run_in_the_direction_of_their_script_with_their_tags(servers, browser):
    for sentence, goes_left in (("the cat sat", False), (ARABIC, True)):
        ask_page = typed(browser, servers["udpos"], tokens=sentence)
        (answer,) = post(servers["udpos"], {"tokens": sentence})[1]["answers"]
        lefts = ask_page(
            "return [...document.querySelectorAll('.word')].map((one) => one.getBoundingClientRect().left)"
        )
        assert lefts == sorted(lefts, reverse=goes_left)
        shown = texts(ask_page, ".word .tag")
        assert [text.split()[0] for text in shown] == answer["prediction"]
        colours = ask_page(
            "return [...document.querySelectorAll('.word')].map((w) => getComputedStyle(w).backgroundColor)"
        )
        assert len(set(colours)) == len(set(answer["prediction"]))


def test_choices_are_typed_one_a_line(servers, browser):
    ask_page = typed(browser, servers["endings"], text="start", choices="good end\n\nbad 3\nanother one")
    assert texts(ask_page, ".named span:first-child") == ["good end", "bad 3", "another one"]
    assert ask_page("return document.querySelector('.said bdi').textContent") in ("good end", "bad 3", "another one")


def test_a_score_is_shown_as_a_number(servers, browser):
    ask_page = typed(browser, servers["similarity"], text="a b", text_pair="c d")
    (answer,) = post(servers["similarity"], {"text": "a b", "text_pair": "c d"})[1]["answers"]
    assert float(texts(ask_page, ".said")[0]) == pytest.approx(answer["prediction"], rel=1e-5)


def test_a_refused_text_is_explained_and_the_next_one_answered(servers, browser):
    ask_page = typed(browser, servers["mood"], text="   ")
    assert texts(ask_page, "#problem") == ["text is empty"]
    ask_page = typed(browser, servers["mood"], text="wow")
    assert ask_page("return document.getElementById('problem').hidden")


@pytest.mark.parametrize("width", [1280, 375])
def test_long_texts_and_words_do_not_widen_the_page(servers, browser, width):
    for task, fields in (
        ("udpos", {"tokens": f"{'x' * 500} {'word ' * 300}"}),
        ("xquad", {"context": f"{'y' * 900} {'text ' * 2000}", "question": "z" * 300}),
        ("endings", {"text": "a", "choices": f"{'c' * 400}\n{'long ' * 100}"}),
    ):
        ask_page = typed(browser, servers[task], width, **fields)
        assert ask_page("return document.documentElement.scrollWidth") <= width, task


def test_the_answer_in_a_long_context_is_scrolled_into_view(servers, browser):
    context = f"{'text ' * 3000} abc"
    ask_page = typed(browser, servers["xquad"], context=context, question="abc?")
    passage, mark = ask_page(
        "return ['.passage', '.passage mark'].map((one) => document.querySelector(one).getBoundingClientRect())"
    )
    assert passage["height"] < 600
    assert passage["top"] <= mark["top"] < mark["bottom"] <= passage["bottom"]
