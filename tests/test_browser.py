"""The page in a real browser, Debian's chromium: it is self-contained, sorts, filters, draws, and fits every screen."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from made_up_experiment import (
    ARMS,
    TEMPLATES,
    hostile_inputs,
    make_alignment,
    make_curves,
    make_differences,
    make_examples,
    make_inputs,
    make_runs,
    make_scores,
)
from paper_tasks import TASKS, metric_names
from wide_experiment import wide_report

from workflow_scripts.evaluation.aggregate import averages
from workflow_scripts.reporting.inputs import Inputs
from workflow_scripts.reporting.page import render, render_page
from workflow_scripts.reporting.sections import sections
from workflow_scripts.reporting.tables import cost

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="there is no browser: apt-get install chromium chromium-driver fonts-liberation"
)

RUNS = "<script>window.ran = true</script><img src=x onerror='window.ran = true'>"
WIDE, NARROW = (1280, 900), (375, 700)
PAPER_SEEDS = range(1, 6)


@pytest.fixture(scope="module")
def paper_grid(tmp_path_factory) -> Path:
    """The page of a grid of the paper's size: all languages of five tasks, five seeds, three arms."""
    runs = make_runs(seeds=PAPER_SEEDS)
    inputs = make_inputs(
        scores=make_scores(seeds=PAPER_SEEDS),
        runs=runs,
        curves=make_curves(runs),
        differences=make_differences(seeds=PAPER_SEEDS),
        examples=make_examples(each=5),
    )
    return written(inputs, tmp_path_factory.mktemp("paper"))


def written(inputs: Inputs, folder: Path) -> Path:
    page = folder / "report.html"
    page.write_text(render(inputs, TEMPLATES), encoding="utf-8")
    return page


def screen(browser, size: tuple[int, int], scheme: str = "light") -> None:
    """Make the window a screen of this size with this preferred colour scheme."""
    width, height = size
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "screen", "features": features})


def with_usual_letters(ask: Callable) -> None:
    """Set the page in a font as wide as that of phones and desktops (Arial). Many servers have only DejaVu.

    Tests that depend on line widths use this font; no table may be cut off with DejaVu either.
    """
    ask("document.documentElement.style.setProperty('--sans', arguments[0])", "'Liberation Sans', Arial")


@pytest.fixture
def opened(browser, paper_grid) -> Callable:
    """The page of the paper's grid, freshly loaded on a wide screen in light mode."""
    screen(browser, WIDE)
    browser.get(paper_grid.as_uri())
    return browser.execute_script


def column(ask: Callable, table: str, place: int) -> list[str]:
    """The texts of a column, without what is hidden, in the order on the page."""
    return ask(
        "return [...document.querySelectorAll(`#${arguments[0]} tbody tr`)]"
        ".filter((row) => row.getClientRects().length)"
        ".map((row) => row.cells[arguments[1]].textContent.trim())",
        table,
        place,
    )


def test_the_paper_grid_opens_within_two_seconds_from_less_than_8_megabytes(browser, paper_grid):
    assert paper_grid.stat().st_size < 8_000_000
    screen(browser, WIDE)
    browser.get(paper_grid.as_uri())
    took = browser.execute_script("return performance.getEntriesByType('navigation')[0].loadEventEnd")
    assert 0 < took < 2000, f"{took:.0f} ms"


def test_the_page_asks_for_nothing_and_has_no_error(browser, paper_grid):
    screen(browser, WIDE)
    browser.get_log("performance"), browser.get_log("browser")
    browser.get(paper_grid.as_uri())
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = {event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"}
    assert asked == {paper_grid.as_uri()}
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0
    assert browser.get_log("browser") == []


def test_a_click_on_a_head_sorts_and_a_second_turns_the_order_round(opened, browser):
    def values() -> list[int]:
        return [int(text.replace(",", "")) for text in column(opened, "cost", 1)]

    head = browser.find_elements("css selector", "#cost thead button")[1]
    before = values()
    head.click()
    assert values() == sorted(before, reverse=True) != before
    head.click()
    assert values() == sorted(before)


def test_arms_are_sorted_with_their_seeds(opened, browser):
    table = browser.find_element("id", "pawsx-accuracy")
    table.find_elements("css selector", "thead button")[1].click()
    names = column(opened, "pawsx-accuracy", 0)
    assert [name.split()[0] for name in names[:7]] == ["Prompt", "±", "seed", "seed", "seed", "seed", "seed"]
    values = zip(names, column(opened, "pawsx-accuracy", 1), strict=True)
    means = [float(text) for name, text in values if "mean" in name]
    assert means == sorted(means, reverse=True)


def test_a_filter_leaves_the_rows_that_have_all_its_words(opened, browser):
    field = browser.find_element("css selector", "#learning-rates input[type=search]")
    every = column(opened, "learning-rates", 0)
    field.send_keys("XQuAD length 16")
    wanted = [name for name in every if "XQuAD" in name and "length 16" in name]
    assert column(opened, "learning-rates", 0) == wanted != []
    assert f"{len(wanted)} of {len(every)} rows" in browser.find_element("css selector", "#learning-rates .filter").text
    browser.find_elements("css selector", "#learning-rates thead button")[1].click()
    assert sorted(column(opened, "learning-rates", 0)) == sorted(wanted), "sorting keeps what is filtered out hidden"
    field.clear()
    field.send_keys(" ")
    assert sorted(column(opened, "learning-rates", 0)) == sorted(every)


def test_a_language_that_is_not_ticked_leaves_tables_and_charts(opened, browser):
    box = browser.find_element("css selector", ".chosen-languages input[value=de]")
    box.click()
    assert "de" not in column_heads(opened, "xnli-accuracy")
    assert opened(
        "return [...document.querySelectorAll('[data-language=de]')].every((mark) => !mark.getClientRects().length)"
    )
    assert "fr" in column_heads(opened, "xnli-accuracy")
    lengths = opened(
        "return [...document.querySelectorAll('#xnli-accuracy tr')]"
        ".map((row) => [...row.cells].filter((cell) => !cell.hidden).length)"
    )
    assert set(lengths) == {len(TASKS["xnli"].languages) + 1}, "every row hides the same column"
    box.click()
    assert "de" in column_heads(opened, "xnli-accuracy")


def column_heads(ask: Callable, table: str) -> list[str]:
    return ask(
        "return [...document.querySelectorAll(`#${arguments[0]} thead th`)].filter((head) => !head.hidden)"
        ".map((head) => head.textContent.trim())",
        table,
    )


def test_every_chart_is_drawn_and_every_point_lies_in_its_chart(opened):
    charts = opened(
        "return [...document.querySelectorAll('.chart svg')].map((chart) => {"
        " const box = chart.getBoundingClientRect();"
        " const inside = [...chart.querySelectorAll('circle')].every((mark) => {"
        "  const at = mark.getBoundingClientRect(), x = at.left + at.width / 2, y = at.top + at.height / 2;"
        "  return x >= box.left - 1 && x <= box.right + 1 && y >= box.top - 1 && y <= box.bottom + 1; });"
        " return [box.width, box.height, chart.querySelectorAll('circle, line, polyline').length, inside]; })"
    )
    assert len(charts) > 60
    assert all(width > 50 and height > 10 and marks and inside for width, height, marks, inside in charts)


def test_a_forest_places_each_difference_by_its_value(opened):
    """The places of points are linear in the differences, with the scale that the axis's numbers have."""
    of_task = make_differences(seeds=PAPER_SEEDS).query("task == 'xnli' and scope != 'gap'")
    wanted = of_task.set_index("scope")["difference"]
    rows = opened(
        "return [...document.querySelectorAll('#forest-1 .row:not(.axis-row)')].map((row) => {"
        " const at = row.querySelector('circle').getBoundingClientRect();"
        " return [row.dataset.language ?? 'average', at.left + at.width / 2,"
        "  row.querySelector('.value').textContent]; })"
    )
    ticks = opened(
        "return [...document.querySelectorAll('#forest-1 .axis span')].map((tick) => {"
        " const at = tick.getBoundingClientRect(); return [tick.textContent, at.left + at.width / 2]; })"
    )
    (low, left), (high, right) = [(float(text.replace("−", "-")), x) for text, x in (ticks[0], ticks[-1])]
    assert len(rows) == len(TASKS["xnli"].languages) + 1
    for scope, x, text in rows:
        assert low + (x - left) * (high - low) / (right - left) == pytest.approx(wanted[scope], abs=0.15)
        assert text.replace("−", "-").rstrip("*") == f"{wanted[scope]:+.1f}".replace("+0.0", "0.0").replace(
            "-0.0", "0.0"
        )


def test_the_cost_chart_places_each_arm_by_score_and_by_the_logarithm_of_its_cost(opened):
    marks = opened(
        "return [...document.querySelectorAll('#costs .plot')[2].querySelectorAll('.mark')].map((mark) => {"
        " const at = mark.getBoundingClientRect();"
        " return [mark.querySelector('title').textContent, at.left + at.width / 2, at.top + at.height / 2]; })"
    )
    costs = cost(make_runs(seeds=PAPER_SEEDS)).set_index(["task", "method", "prompt_length"])["tuned_parameters"]
    scores = averages(make_scores(seeds=PAPER_SEEDS)).set_index(["task", "method", "prompt_length", "metric"])["mean"]
    true = {}
    for (task, method, length), parameters in costs.items():
        arm = f"Prompt tuning, length {length}" if length else "Fine-tuning"
        mean = scores[task, method, length, metric_names(task)[0]]
        true[f"{TASKS[task].title}, {arm}"] = (math.log10(parameters), mean)
    assert {title.partition(":")[0] for title, _, _ in marks} == set(true)
    for axis in (0, 1):
        pairs = sorted((true[title.partition(":")[0]][axis], (x, -y)[axis]) for title, x, y in marks)
        (first, start), (last, end) = pairs[0], pairs[-1]
        for value, place in pairs:
            assert place == pytest.approx(start + (value - first) * (end - start) / (last - first), abs=1)


def test_the_pointer_and_the_arrow_keys_show_a_points_value(opened, browser):
    from selenium.webdriver import ActionChains, Keys

    point = browser.find_element("css selector", "#overview-1 .mark circle")
    ActionChains(browser).move_to_element(point).perform()
    tip = browser.find_element("css selector", ".tip")
    assert tip.is_displayed()
    assert tip.text.startswith("XNLI: ") and "95 % interval" in tip.text
    chart = browser.find_element("css selector", "#overview-1 .chart")
    opened("arguments[0].focus()", chart)
    chart.send_keys(Keys.ARROW_DOWN)
    assert tip.text.startswith("PAWS-X: ")
    chart.send_keys(Keys.ESCAPE)
    assert not tip.is_displayed()


def test_the_pointer_shows_the_value_of_the_nearest_curve_at_its_step(opened, browser):
    """Against the data: the values of the seeds at that step, to the thickness of a line."""
    from selenium.webdriver import ActionChains

    opened("document.querySelector('#curves details').open = true")
    runs = make_runs(["xnli"], seeds=PAPER_SEEDS, arms=[("prompt_tuning", 8)])
    frame = make_curves(runs).query("stage == 'seed' and quantity == 'validation_accuracy'")
    chart = browser.find_elements("css selector", "#curves .chart")[5]
    ActionChains(browser).move_to_element(chart).perform()
    tip = browser.find_element("css selector", ".tip")
    name, text = tip.text.split(": ")
    assert name.endswith(", validation accuracy")
    value, step = (float(part.replace(",", "")) for part in text.split(" at step "))
    assert step == pytest.approx(3600, abs=50), "the middle of 30 epochs of 240 steps, to a pixel"
    of_seed = frame[frame["seed"] == int(name.removeprefix("seed ").partition(",")[0])].set_index("step")["value"]
    assert value == pytest.approx(of_seed[3600], abs=0.2)
    title = browser.find_element("css selector", "#curves h2")
    ActionChains(browser).move_to_element(title).perform()
    assert not tip.is_displayed()


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_nothing_makes_the_page_wider_than_the_screen(opened, browser, size):
    screen(browser, size)
    opened("for (const each of document.querySelectorAll('details')) each.open = true")
    assert opened("return document.documentElement.scrollWidth") <= size[0]


@pytest.fixture(scope="module")
def widest_grid(tmp_path_factory) -> Path:
    """The page of a grid with every method, two encoders with long names, and trainings of hours."""
    arms = (
        *ARMS,
        ("input_prompt_tuning", 8),
        ("input_prompt_tuning", 16),
        ("linear_probe", 0),
        ("bitfit", 0),
        ("lora", 0),
    )

    def twice(frame: pd.DataFrame) -> pd.DataFrame:
        return pd.concat([frame, frame.assign(encoder="paraphrase-multilingual-mpnet")], ignore_index=True)

    runs = twice(make_runs(arms=arms))
    inputs = make_inputs(
        scores=twice(make_scores(arms=arms)),
        runs=runs.assign(seconds=60 * runs["seconds"]),
        differences=twice(make_differences()),
        alignment=twice(make_alignment()),
    )
    return written(inputs, tmp_path_factory.mktemp("widest"))


@pytest.fixture(scope="module")
def very_many_languages(tmp_path_factory) -> Path:
    """The page of a grid of 205 and 122 languages, six methods and two training sources."""
    report = wide_report(("en", "en+deu_Latn"))
    page = tmp_path_factory.mktemp("wide") / "report.html"
    page.write_text(render_page(report, sections(report), TEMPLATES), encoding="utf-8")
    return page


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_very_many_languages_fit_the_screen_and_no_texts_of_charts_overlap(browser, very_many_languages, size):
    screen(browser, size)
    browser.get_log("browser")
    browser.get(very_many_languages.as_uri())
    ask = browser.execute_script
    with_usual_letters(ask)
    ask("for (const each of document.querySelectorAll('details')) each.open = true")
    assert ask("return document.documentElement.scrollWidth") <= size[0]
    overlapping = ask(
        "const found = [];"
        "for (const chart of document.querySelectorAll('.plot, .dot-chart, .forest, .strip')) {"
        " const texts = [...chart.querySelectorAll('.label, .name, .tick, .axis span, .value, .sides span')];"
        " const boxes = texts.map((text) => [text, text.getBoundingClientRect()]).filter(([, box]) => box.width);"
        " for (let one = 0; one < boxes.length; one++)"
        "  for (let other = one + 1; other < boxes.length; other++) {"
        "   const [[a, left], [b, right]] = [boxes[one], boxes[other]];"
        "   const across = Math.min(left.right, right.right) - Math.max(left.left, right.left);"
        "   const down = Math.min(left.bottom, right.bottom) - Math.max(left.top, right.top);"
        "   if (across > 1 && down > 3) found.push([chart.className, a.textContent, b.textContent]);"
        "  }"
        " const edge = Math.max(...boxes.map(([, box]) => box.right));"
        " if (edge > arguments[0]) found.push([chart.className, 'beyond the screen']);"
        "} return found;",
        size[0],
    )
    assert overlapping == []
    assert browser.get_log("browser") == []


def test_a_family_opens_to_its_languages_and_the_filter_finds_them(browser, very_many_languages):
    screen(browser, WIDE)
    browser.get(very_many_languages.as_uri())
    ask = browser.execute_script
    before = column(ask, "xnli-accuracy", 0)
    assert 10 < len(before) < 40, "families, and the languages without relatives"
    buttons = browser.find_elements("css selector", "#xnli-accuracy tbody button")
    (turkic,) = [button for button in buttons if button.text.startswith("Turkic")]
    assert turkic.get_attribute("aria-expanded") == "false"
    turkic.click()
    assert turkic.get_attribute("aria-expanded") == "true"
    opened = column(ask, "xnli-accuracy", 0)
    assert len(opened) == len(before) + 11
    turkic.click()
    assert column(ask, "xnli-accuracy", 0) == before
    field = browser.find_element("css selector", "#xnli-accuracy input[type=search]")
    field.send_keys("turkic cyrillic")
    found = column(ask, "xnli-accuracy", 0)
    assert found[0].startswith("Turkic")
    assert len(found) > 3 and all("Cyrillic" in name for name in found[1:])
    field.clear()
    field.send_keys(" ")
    assert column(ask, "xnli-accuracy", 0) == before


def test_families_are_sorted_by_their_mean_and_their_languages_within_them(browser, very_many_languages):
    screen(browser, WIDE)
    browser.get(very_many_languages.as_uri())
    browser.find_elements("css selector", "#pawsx-accuracy thead button")[1].click()
    bodies = browser.execute_script(
        "return [...document.querySelectorAll('#pawsx-accuracy tbody')]"
        ".map((body) => [...body.rows].map((row) => Number(row.cells[1].dataset.sort)))"
    )
    assert [body[0] for body in bodies] == sorted((body[0] for body in bodies), reverse=True)
    assert all(body[1:] == sorted(body[1:], reverse=True) for body in bodies)


@pytest.mark.parametrize("font", ["system-ui", "'DejaVu Sans'"])
@pytest.mark.parametrize("width", [1280, 1024, 800])
def test_no_table_is_cut_off(browser, widest_grid, width, font):
    """At 1,280 pixels all but the table of 33 languages fit; a table that does not fit scrolls.

    DejaVu is among the widest fonts in common use, and the only one on many servers.
    """
    screen(browser, (width, 900))
    browser.get(widest_grid.as_uri())
    ask = browser.execute_script
    ask("document.documentElement.style.setProperty('--sans', arguments[0])", font)
    ask("for (const each of document.querySelectorAll('details')) each.open = true")
    assert ask("return document.documentElement.scrollWidth") <= width
    cut = ask(
        "return [...document.querySelectorAll('table')].filter((table) => {"
        " const region = table.closest('.scroll'); return table.offsetWidth > region.clientWidth"
        " && (arguments[0] || getComputedStyle(region).overflowX !== 'auto'); })"
        ".map((table) => table.closest('figure').id)",
        width == 1280,
    )
    assert set(cut) == ({"udpos-f1", "udpos-f1-xtreme", "udpos-accuracy"} if width == 1280 else set())


def test_the_name_of_a_row_takes_few_lines_and_no_larger_letters_than_its_numbers(browser, widest_grid):
    """The sentence at the top of the page is large, and its style once also applied to rows of tables."""
    screen(browser, WIDE)
    browser.get(widest_grid.as_uri())
    with_usual_letters(browser.execute_script)
    browser.execute_script("for (const each of document.querySelectorAll('details')) each.open = true")
    names = browser.execute_script(
        "return [...document.querySelectorAll('.table tbody th')].map((head) => {"
        " const style = getComputedStyle(head);"
        " const name = [...head.querySelectorAll('span')].at(-1);"
        " return [head.textContent.trim(), parseFloat(style.fontSize), name.getClientRects().length]; })"
    )
    assert len(names) > 300
    assert {size for _, size, _ in names} <= {13, 14}
    assert [text for text, _, lines in names if lines > 2] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground_in_both_schemes(opened, browser, scheme):
    """At least 4.5 to 1, as WCAG 2.1 asks (success criterion 1.4.3)."""
    screen(browser, WIDE, scheme)
    ground = luminance(opened("return getComputedStyle(document.body).backgroundColor"))
    assert (ground < 0.2) == (scheme == "dark")
    for where in ("body", ".lead", ".eyebrow", "a", ".forest .value", "td", ".example .verdict", ".cautions li"):
        colour = luminance(opened("return getComputedStyle(document.querySelector(arguments[0])).color", where))
        light, dark = max(ground, colour), min(ground, colour)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, where


def luminance(colour: str) -> float:
    """The relative luminance of `rgb(r, g, b)`, as WCAG 2.1 defines it."""
    parts = [int(part) / 255 for part in colour.partition("(")[2].rstrip(")").split(",")[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_a_right_to_left_text_is_laid_out_from_the_right(opened):
    opened("for (const each of document.querySelectorAll('#examples details')) each.open = true")
    direction = "return getComputedStyle(document.querySelector(`.example dd[lang=${arguments[0]}]`)).direction"
    assert opened(direction, "ar") == opened(direction, "ur") == "rtl"
    assert opened(direction, "de") == "ltr"


def test_on_paper_there_are_no_controls_and_nothing_is_folded(opened, browser):
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    opened("window.dispatchEvent(new Event('beforeprint'))")
    assert not any(each.is_displayed() for each in browser.find_elements("css selector", ".filter, .chosen-languages"))
    assert opened("return [...document.querySelectorAll('details')].every((each) => each.open)")
    opened("window.dispatchEvent(new Event('afterprint'))")
    assert not opened("return document.querySelector('#examples details').open"), "and folded again after"


def test_markup_in_data_is_shown_and_does_not_run(browser, tmp_path):
    screen(browser, WIDE)
    browser.get(written(hostile_inputs(RUNS), tmp_path).as_uri())
    assert browser.execute_script("return window.ran") is None
    assert browser.execute_script("return document.images.length") == 0
    assert browser.execute_script("return document.body.textContent.split(arguments[0]).length", RUNS) > 12
    assert browser.get_log("browser") == []


def test_without_its_script_the_page_still_shows_tables_charts_and_values(browser, paper_grid):
    screen(browser, WIDE)
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.get(paper_grid.as_uri())
        assert browser.find_element("css selector", "#forest-1 circle").rect["width"] > 5
        assert len(browser.find_elements("css selector", "#forest-1 .mark > title")) == 16
        assert len(browser.find_elements("css selector", "#cost tbody tr")) == 15
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_a_page_without_analyses_and_tests_has_no_error(browser, tmp_path):
    whole = make_inputs()
    bare = Inputs(whole.scores, whole.runs, whole.provenance)
    screen(browser, NARROW)
    browser.get(written(bare, tmp_path).as_uri())
    assert browser.get_log("browser") == []
    assert browser.execute_script("return document.documentElement.scrollWidth") <= NARROW[0]
