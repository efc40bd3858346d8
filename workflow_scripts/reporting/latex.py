"""The tables as LaTeX to paste into a paper: booktabs, one or more `table` environments in each file.

The numbers of the CSV files in the paper's format: one digit after the point, the standard deviation over seeds in
parentheses, the best in bold.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from workflow_scripts.evaluation.aggregate import ARM, languages_of
from workflow_scripts.experiment.catalogue import TASKS
from workflow_scripts.experiment.visible import visible
from workflow_scripts.reporting.wording import Names, method_title, metric_note, metric_title, rate_text

HEAD = "% Needs \\usepackage{booktabs} and, for words of other alphabets, XeLaTeX or LuaLaTeX.\n"
NOTHING = "--"
MOST_LANGUAGES = 14  # columns that fit on a page in small print; more go into a second tabular below
ONE_COLUMN = 42  # characters that fit into one column of a two-column page in small print

_SPECIAL = str.maketrans(
    {
        **{character: f"\\{character}" for character in "&%$#_{}"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "−": "$-$",
        "–": "--",
        "±": r"$\pm$",
        "’": "'",
        "\n": " ",
    }
)

Cell = str | tuple[str, str]


@dataclass(frozen=True)
class Block:
    """A tabular: headers (a pair if one spans several columns) and groups of rows with rules between them.

    Every text is LaTeX already. The first `texts` columns are left-aligned, numbers right-aligned.
    """

    heads: Sequence[Cell]
    groups: Sequence[Sequence[Sequence[str]]]
    texts: int


def escaped(text: object) -> str:
    """The text with LaTeX's special characters and control characters escaped."""
    return visible(str(text)).translate(_SPECIAL)


def number(value: object, digits: int = 1) -> str:
    """A number with a fixed number of digits after the point; a dash if there is none."""
    if value is None or pd.isna(value):  # type: ignore[call-overload]
        return NOTHING
    return f"{float(value):,.{digits}f}".replace("-", "$-$")  # type: ignore[arg-type]


def with_deviation(value: object, std: object) -> str:
    """`79.9 (0.1)`, as the paper's table 1; without a deviation the number alone."""
    return number(value) if std is None or pd.isna(std) else f"{number(value)} ({number(std)})"  # type: ignore[call-overload]


def bold(text: str) -> str:
    """The text in bold."""
    return rf"\textbf{{{text}}}"


def table(caption: str, label: str, *blocks: Block) -> str:
    """A table with its tabulars one below the other, over both columns of a page if necessary.

    caption: LaTeX; label: any text, without `tab:`.
    """
    label = re.sub(r"[^A-Za-z0-9.]+", "-", label)
    environment = "table*" if max(map(_characters, blocks)) > ONE_COLUMN else "table"
    parts = "\n\n\\medskip\n\n".join(map(_tabular, blocks))
    return (
        f"\\begin{{{environment}}}[t]\n\\centering\n\\footnotesize\n\\setlength{{\\tabcolsep}}{{4pt}}\n\\caption{{{caption}}}\n"
        f"\\label{{tab:{label}}}\n{parts}\n\\end{{{environment}}}\n"
    )


def _characters(block: Block) -> int:
    """The approximate width of a tabular in characters, without markup such as bold."""
    heads = [head if isinstance(head, str) else head[1] for head in block.heads]
    rows = [heads, *(row for group in block.groups for row in group)]
    lengths = [[len(re.sub(r"\\[a-z]+|[{}$\\]", "", cell)) + 1 for cell in row] for row in rows]
    return sum(map(max, zip(*lengths, strict=True)))


def _tabular(block: Block) -> str:
    """The tabular as pandas writes it, one line for each row, with rules between the groups."""
    rows = [row for group in block.groups for row in group]
    heads = pd.MultiIndex.from_tuples(block.heads) if isinstance(block.heads[0], tuple) else pd.Index(block.heads)
    layout = "l" * block.texts + "r" * (len(block.heads) - block.texts)
    styled = pd.DataFrame(rows, columns=heads).style.hide(axis="index")
    lines = styled.to_latex(hrules=True, column_format=layout, multicol_align="c").strip().split("\n")
    place = lines.index(r"\midrule") + 1
    for group in block.groups[:-1]:
        place += len(group)
        lines.insert(place, r"\midrule")
        place += 1
    return "\n".join(lines)


def summary_latex(frame: pd.DataFrame, value: str, caption: str, label: str, best: Callable[..., float]) -> str:
    """Tables 1 and 2: a row for each method, a column for each task and metric. `value`: the column of the number.

    The row of a method has the headline prompt length of each task; several lengths follow in rows of their own. The
    best method of each column is bold, among those that have all languages.
    """
    several_encoders = frame["encoder"].nunique() > 1
    present = set(zip(frame["task"], frame["metric"], strict=True))
    columns = [(task, metric) for task in TASKS for metric in TASKS[task].metrics if (task, metric) in present]
    winners = _winners(frame[frame["headline"] & frame["complete"]], value, best)
    groups = []
    for (encoder, method), arms in frame.groupby(["encoder", "method"], sort=False):
        name = f"{method_title(method)}, {encoder}" if several_encoders else method_title(method)
        lengths = sorted(set(arms["prompt_length"]))
        if len(lengths) == 1 and lengths[0]:
            name += f", length {lengths[0]}"
        chosen = arms[arms["headline"]]
        rows = [[escaped(name), *_summary_cells(chosen, columns, value, winners)]]
        for length in lengths if len(lengths) > 1 else []:
            of_length = arms[arms["prompt_length"] == length]
            rows.append([rf"\quad length {length}", *_summary_cells(of_length, columns, value, {})])
        groups.append(rows)
    heads = [("", "Method"), *((escaped(TASKS[task].title), escaped(metric_title(metric))) for task, metric in columns)]
    notes = [escaped(note) for column in columns if (note := metric_note(*column))]
    return table(" ".join([caption, *notes]), label, Block(heads, groups, texts=1))


def _winners(frame: pd.DataFrame, value: str, best: Callable[..., float]) -> dict[tuple[str, str, str], float]:
    """The best printed number of each encoder, task and metric that two methods or more have."""
    return {
        key: best(round(number, 1) for number in group[value].dropna())
        for key, group in frame.groupby(["encoder", "task", "metric"])
        if group[value].notna().sum() > 1
    }


def _summary_cells(
    rows: pd.DataFrame, columns: Sequence[tuple[str, str]], value: str, winners: dict[tuple[str, str, str], float]
) -> Iterator[str]:
    for task, metric in columns:
        found = rows[(rows["task"] == task) & (rows["metric"] == metric)]
        if found.empty:
            yield NOTHING
            continue
        row = found.iloc[0]
        text = with_deviation(row[value], row["std"])
        best = winners.get((row["encoder"], task, metric))
        yield bold(text) if best is not None and row["complete"] and round(row[value], 1) == best else text


def languages_latex(
    frame: pd.DataFrame,
    task: str,
    label: str,
    ceilings: Mapping[str, Mapping[str, pd.Series]] | None = None,
    ceiling_note: str = "",
) -> str:
    """Tables 5 to 8 and UD-POS: a table for each metric with languages as columns, a row for each seed, then the mean.

    `ceilings`: by metric and encoder, the best scores that tokens allow (`tables.ceilings_of`), which come last.
    """
    languages = [language for language in languages_of(frame) if language != "metric"]
    parts = []
    for metric, of_metric in frame.groupby("metric", sort=False):
        caption = (
            f"{escaped(TASKS[task].title)}, {escaped(metric_title(str(metric)))} (\\%) by language and seed, tuned on"
            " English alone; means over seeds, the best in bold."
        )
        caption = f"{caption} {escaped(metric_note(task, str(metric), alone=True))}".strip()
        highest = (ceilings or {}).get(str(metric), {})
        if highest:
            caption = f"{caption} {escaped(ceiling_note)}"
        blocks = [_languages_block(of_metric, chunk, highest) for chunk in _chunks([*languages, "avg"], MOST_LANGUAGES)]
        parts.append(table(caption, f"{label}-{metric}", *blocks))
    return "\n".join(parts)


def _chunks(values: Sequence[str], most: int) -> Iterator[Sequence[str]]:
    """Parts of about equal length, none longer than `most`."""
    count = -(-len(values) // most)
    size = -(-len(values) // count)
    return (values[start : start + size] for start in range(0, len(values), size))


def _languages_block(frame: pd.DataFrame, columns: Sequence[str], ceilings: Mapping[str, pd.Series]) -> Block:
    names = _names(frame)
    arms = list(frame.groupby(ARM, sort=False))
    means = {key: models[list(columns)].mean().round(1) for key, models in arms}
    best = {
        encoder: pd.DataFrame([mean for key, mean in means.items() if key[0] == encoder]).max()
        for encoder in frame["encoder"].unique()
    }
    groups = []
    for key, models in arms:
        encoder, method, length = key
        rivals = sum(other[0] == encoder for other in means) > 1
        rows = [[str(model["seed"]), *(number(model[column]) for column in columns)] for _, model in models.iterrows()]
        summary = [
            bold(number(mean)) if rivals and mean == best[encoder][column] else number(mean)
            for column, mean in models[list(columns)].mean().round(1).items()
        ]
        if len(models) > 1:
            rows.append(["mean", *summary])
        else:
            rows = [[rows[0][0], *summary]]
        title = escaped(names.arm(method, length, encoder))
        groups.append([[title if place == 0 else "", *row] for place, row in enumerate(rows)])
    for encoder, values in ceilings.items():
        title = f"Highest possible, {encoder}" if frame["encoder"].nunique() > 1 else "Highest possible"
        groups.append([[escaped(title), "", *(number(values[column]) for column in columns)]])
    return Block(["Method", "Seed", *map(escaped, columns)], groups, texts=2)


def representations_latex(frame: pd.DataFrame, measures: Mapping[str, str], caption: str, label: str) -> str:
    """Tables 3 and 4: a table for each training task with languages as columns, a row for each arm and measure.

    `measures`: their titles, left out of the rows if there is only one. The untuned encoder comes first.
    """
    languages = list(dict.fromkeys(frame["language"]))
    tasks = [task for task in dict.fromkeys(frame["task"]) if task]
    parts = []
    for task in tasks or [""]:
        rows = frame[frame["task"].isin(["", task])]
        where = f" Trained on {escaped(TASKS[task].title)}." if task else ""
        blocks = [_representations_block(rows, measures, chunk) for chunk in _chunks(languages, MOST_LANGUAGES // 2)]
        parts.append(table(caption + where, f"{label}-{task}", *blocks))
    return "\n".join(parts)


def _representations_block(frame: pd.DataFrame, measures: Mapping[str, str], languages: Sequence[str]) -> Block:
    names = _names(frame)
    groups = []
    for (encoder, method, length), model in frame.groupby(ARM, sort=False):
        title, rows = escaped(names.arm(method, length, encoder)), []
        for measure, what in measures.items():
            cells = model[model["measure"] == measure].set_index("language").reindex(languages)
            if cells["mean"].notna().any():
                values = [with_deviation(*pair) for pair in zip(cells["mean"], cells["std"], strict=True)]
                rows.append([title, *([what] if len(measures) > 1 else []), *values])
                title = ""
        if rows:
            groups.append(rows)
    heads = ["Method", *([""] if len(measures) > 1 else []), *map(escaped, languages)]
    return Block(heads, groups, texts=len(heads) - len(languages))


@dataclass(frozen=True)
class Column:
    """A column of a plain table: its head, and how a row's value becomes LaTeX."""

    head: str
    text: Callable[[pd.Series], str]


def of_text(head: str, name: str) -> Column:
    """A column of texts."""
    return Column(head, lambda row: "" if pd.isna(row[name]) else escaped(row[name]))


def of_number(head: str, name: str, digits: int = 1) -> Column:
    """A column of numbers."""
    return Column(head, lambda row: number(row[name], digits))


def of_pair(head: str, name: str, std: str) -> Column:
    """A column of numbers, each with its deviation."""
    return Column(head, lambda row: with_deviation(row[name], row[std]))


def of_rate(head: str, name: str) -> Column:
    """A column of learning rates."""
    return Column(head, lambda row: escaped(rate_text(row[name])))


METHOD = Column("Method", lambda row: escaped(method_title(row["method"])))
METRIC = Column("Metric", lambda row: escaped(metric_title(row["metric"])))
TASK = Column("Task", lambda row: escaped(TASKS[row["task"]].title if row["task"] in TASKS else row["task"]))


def arm_column(frame: pd.DataFrame) -> Column:
    """The column with the title of the arm."""
    names = _names(frame)
    return Column("Method", lambda row: escaped(names.arm(row["method"], row["prompt_length"], row["encoder"])))


def plain_latex(
    frame: pd.DataFrame,
    columns: Sequence[Column],
    caption: str,
    label: str,
    texts: int,
    winner: str = "",
    groups: str = "task",
) -> str:
    """Any other table, with rules between `groups`; rows whose column `winner` is true are bold."""
    blocks = []
    for _, of_group in frame.groupby(groups, sort=False):
        rows = []
        for _, row in of_group.iterrows():
            cells = [column.text(row) for column in columns]
            rows.append([bold(cell) if cell else cell for cell in cells] if winner and row[winner] else cells)
        blocks.append(rows)
    return table(caption, label, Block([column.head for column in columns], blocks, texts))


def beside_latex(frame: pd.DataFrame, label: str) -> str:
    """Ours beside the paper's: a table for each encoder, task and metric; languages, average and gap are columns."""
    parts = []
    for (encoder, task, metric), cells in frame.groupby(["encoder", "task", "metric"], sort=False):
        scopes = list(dict.fromkeys(cells["scope"]))
        blocks = [_beside_block(cells, chunk) for chunk in _chunks(scopes, MOST_LANGUAGES)]
        caption = (
            f"{escaped(TASKS[task].title)}, {escaped(metric_title(metric))} (\\%): {escaped(encoder)} here beside Tu,"
            " Xiong and Zhou (2022), and the difference in percentage points."
        )
        parts.append(table(caption, f"{label}-{encoder}-{task}-{metric}", *blocks))
    return "\n".join(parts)


def _beside_block(cells: pd.DataFrame, scopes: Sequence[str]) -> Block:
    groups = []
    for (method, length), of_method in cells.groupby(["method", "prompt_length"], sort=False):
        by_scope = of_method.set_index("scope").reindex(scopes)
        title = escaped(Names(languages={}).arm(method, length))
        groups.append(
            [
                [title if place == 0 else "", who, *(number(by_scope.loc[scope, column]) for scope in scopes)]
                for place, (who, column) in enumerate(
                    (("ours", "ours"), ("paper", "published"), ("difference", "difference"))
                )
            ]
        )
    return Block(["Method", "", *map(escaped, scopes)], groups, texts=2)


def _names(frame: pd.DataFrame) -> Names:
    return Names(languages={}, several_encoders=frame["encoder"].nunique() > 1)
