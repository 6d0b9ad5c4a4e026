"""Paper-style tables from summaries."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fade.errors import ParameterError, StoreError, plain
from pipeline.report.paper_table import metric_tables, other_means, run_tables
from pipeline.report.plots import UNDEFINED
from pipeline.report.rendering import csv_text, escape_latex, escape_markdown, latex, markdown
from pipeline.report.summary import DEFAULT_METRICS, read_summary
from tests.pipeline.summaries import summary, write_project

NAN = float("nan")
SWEEP = {
    ("pc|b_1", 0): (0.5, 0.0),
    ("nut & bolt", 0): (NAN, NAN),
    ("mean", 0): (0.5, 0.0),
    ("pc|b_1", 2): (0.8765, 0.0123),
    ("nut & bolt", 2): (1.0, 0.0),
    ("mean", 2): (0.93825, 0.006),
}


def markdown_table(summary: pd.DataFrame, metrics: Sequence[str] = DEFAULT_METRICS) -> str:
    return markdown(metric_tables(summary, metrics))


def latex_table(summary: pd.DataFrame, metrics: Sequence[str] = DEFAULT_METRICS) -> str:
    return latex(metric_tables(summary, metrics))


def test_markdown() -> None:
    assert markdown_table(summary(SWEEP), ["full_image_auroc"]) == (
        "Image AUROC (%), mean ± standard deviation over seeds.\n"
        "\n"
        "| category | 0-shot | 2-shot |\n"
        "| --- | ---: | ---: |\n"
        "| pc\\|b_1 | 50.0 | 87.6 ± 1.2 |\n"
        f"| nut & bolt | {UNDEFINED} | 100.0 ± 0.0 |\n"
        "| mean | 50.0 | 93.8 ± 0.6 |\n"
    )


def test_latex() -> None:
    assert latex_table(summary(SWEEP), ["full_pixel_au_pro"]) == "\n".join(
        [
            r"% \usepackage{booktabs}",
            "",
            r"\begin{table}",
            r"\centering",
            r"\caption{Pixel AUPRO (\%), mean $\pm$ standard deviation over seeds.}",
            r"\label{tab:full-pixel-au-pro}",
            r"\begin{tabular}{lrr}",
            r"\toprule",
            r"category & 0-shot & 2-shot \\",
            r"\midrule",
            r"pc|b\_1 & 50.0 & 87.6 $\pm$ 1.2 \\",
            r"nut \& bolt & -- & 100.0 $\pm$ 0.0 \\",
            r"\midrule",
            r"mean & 50.0 & 93.8 $\pm$ 0.6 \\",
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def test_one_seed_has_no_deviation() -> None:
    text = markdown_table(summary({("a", 1): (0.5, 0.0), ("mean", 1): (0.5, 0.0)}))
    assert "±" not in text
    assert text.count("| a | 50.0 |") == 3


def test_a_row_that_is_missing_is_a_dash() -> None:
    table = summary({("a", 1): (0.5, 0.0), ("b", 2): (0.25, 0.0), ("mean", 1): (0.5, 0.0)})
    rows = dict(metric_tables(table, ["full_image_auroc"])[0].rows)
    assert [cell.mean for cell in rows["a"]] == [50, None]
    assert [cell.mean for cell in rows["b"]] == [None, 25]
    assert [cell.mean for cell in rows["mean"]] == [50, None]


def test_no_test_images() -> None:
    assert markdown_table(summary({})) == "No test images, so no metrics.\n"
    assert latex_table(summary({})) == "% No test images, so no metrics.\n"


def test_several_runs_with_the_best_in_bold() -> None:
    """Equal to the digit that is printed is equally good."""
    other = summary({("pc|b_1", 2): (0.9384, 0.0), ("mean", 2): (0.9384, 0.0)})
    runs = [("a_b", summary(SWEEP)), ("c", other)]
    intervals = [{("full_image_auroc", "mean", 2): (0.9, 0.97)}, {}]
    tables = run_tables(runs, ["full_image_auroc"], intervals)
    assert markdown(tables, bold=True).splitlines() == [
        "Image AUROC (%), mean ± standard deviation over seeds, approximate 95 % interval over images in "
        "brackets.",
        "",
        "| run | 0-shot | 2-shot |",
        "| --- | ---: | ---: |",
        "| a_b | **50.0** | **93.8 ± 0.6 (90.0 to 97.0)** |",
        f"| c | {UNDEFINED} | **93.8** |",
    ]
    assert latex(tables, bold=True).splitlines()[9:-3] == [
        r"\midrule",
        r"a\_b & \textbf{50.0} & \textbf{93.8 $\pm$ 0.6 (90.0--97.0)} \\",
        r"c & -- & \textbf{93.8} \\",
    ]
    assert "**" not in markdown(tables)
    assert csv_text(tables).splitlines() == [
        "metric,run,shots,mean,deviation,low,high",
        "full_image_auroc,a_b,0,50.0,,,",
        "full_image_auroc,a_b,2,93.825,0.6,90.0,97.0",
        "full_image_auroc,c,0,,,,",
        "full_image_auroc,c,2,93.84,,,",
    ]
    assert markdown(run_tables([("a", summary({}))], ["full_image_auroc"])).startswith("No test")


def test_means_over_other_categories_are_named_once_a_metric_and_five_at_most() -> None:
    names = [f"c{n}" for n in range(7)]
    whole = summary({(name, shots): (0.5, 0.0) for name in names for shots in (4, 1)})
    for lacking, said in (
        (1, "c0 has"), (2, "c0, c1 have"), (5, "c0, c1, c2, c3, c4 have"),
        (6, "c0, c1, c2, c3, c4, ... have"),
    ):  # fmt: skip
        less = whole[~whole["category"].isin(names[:lacking])]
        line = f"{{}}: means are not over the same categories: at 1 shot {said} no value in other"
        for runs in ([("a", whole), ("other", less)], [("other", less), ("a", whole)]):
            assert other_means(runs, DEFAULT_METRICS) == [
                line.format(metric) for metric in DEFAULT_METRICS
            ]
    assert other_means([("a", whole), ("b", whole)], DEFAULT_METRICS) == []


def test_names_in_csv_are_text() -> None:
    table = metric_tables(
        summary({("=1+1", 0): (0.5, 0.0), ("mean", 0): (0.5, 0.0)}), DEFAULT_METRICS
    )
    assert "full_image_auroc,'=1+1,0,50.0,,,\n" in csv_text(table)
    assert csv_text([]) == "metric,category,shots,mean,deviation,low,high\n"


def test_unknown_metric() -> None:
    with pytest.raises(ParameterError, match="did you mean full_image_auroc"):
        markdown_table(summary(SWEEP), ["image_auroc"])


def test_missing_column() -> None:
    with pytest.raises(StoreError, match="no column full_image_auroc_std"):
        markdown_table(summary(SWEEP).drop(columns="full_image_auroc_std"))


def test_read_summary(tmp_path: Path) -> None:
    folder = write_project(tmp_path, SWEEP)
    for place in (folder, folder / "results", folder / "results" / "summary.csv"):
        assert read_summary(place)["category"].tolist()[:2] == ["pc|b_1", "nut & bolt"]
    with pytest.raises(StoreError, match=r"no summary\.csv"):
        read_summary(tmp_path / "elsewhere")


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("a,x,0.5,0", "row 3: shots is 'x', but must be a whole number from 0"),
        ("a,,0.5,0", "row 3: shots is empty"),
        ("a,1e400,0.5,0", "row 3: shots is 'inf'"),
        ("a,1.5,0.5,0", r"row 3: shots is '1\.5'"),
        ("a,-1,0.5,0", "row 3: shots is '-1'"),
        (",1,0.5,0", "row 3: category is empty, but must be a name"),
        ("a,1,x,0", "row 3: full_image_auroc_mean is 'x', but must be a share from 0 to 1"),
        ("a,1,1e400,0", "row 3: full_image_auroc_mean is 'inf'"),
        ("a,1,0.5,True", "row 3: full_image_auroc_std is 'True'"),
        ("a,1,0.5,1e308", r"row 3: full_image_auroc_std is '1e\+308'"),
    ],
)
def test_cells_that_are_refused(tmp_path: Path, row: str, says: str) -> None:
    path = tmp_path / "summary.csv"
    header = "category,shots,full_image_auroc_mean,full_image_auroc_std,schema"
    path.write_text(f"{header}\nb,1,0.5,0,1\n{row},1\n")
    with pytest.raises(StoreError, match=rf"summary\.csv, {says}.*fade run") as error:
        read_summary(path)
    assert "\n" not in str(error.value)
    path.write_text(f"{header}\nb,1,,,1\n")
    assert markdown_table(read_summary(path), ["full_image_auroc"])


@pytest.mark.parametrize(
    ("text", "markdown"),
    [
        ("\x1b[2J\x9b\u202e", r"\\x1b\[2J\\x9b\\u202e"),
        ("circuit_board", "circuit_board"),
        ("_a_", r"\_a\_"),
        ("a|b*c`d", r"a\|b\*c\`d"),
        ("a\\|b", r"a\\\|b"),
        ("two\nlines", "two lines"),
        ("ü 部品", "ü 部品"),
        ("<b>&lt; ~~x~~", r"\<b>\&lt; \~\~x\~\~"),
        ("\x1b[2Jred\u202e", r"\\x1b\[2Jred\\u202e"),
    ],
)
def test_markdown_escapes(text: str, markdown: str) -> None:
    assert escape_markdown(text) == markdown


def test_latex_takes_no_name_for_an_argument() -> None:
    """A row's [ or * would belong to the \\\\ or \\midrule before it."""
    table = latex_table(summary({(name, 0): (0.5, 0.0) for name in ("[1]", "*", "mean")}))
    assert "\\midrule\n{}[1] & 50.0 \\\\\n{}* & 50.0 \\\\\n" in table
    assert escape_latex("a[1]\x1b") == r"a[1]\textbackslash{}x1b"


def test_latex_escapes() -> None:
    assert escape_latex(r"100% & $x_1^2$ #{~\}") == (
        r"100\% \& \$x\_1\textasciicircum{}2\$ \#\{\textasciitilde{}\textbackslash{}\}"
    )
    assert escape_latex("\x1b\x9b") == r"\textbackslash{}x1b\textbackslash{}x9b"


@settings(max_examples=30, deadline=None)
@given(st.text(max_size=20))
@example("\x9b31m\u202e|&")
def test_a_name_never_makes_another_cell(name: str) -> None:
    escaped = escape_markdown(name)
    assert len(escaped.splitlines()) <= 1
    assert "|" not in escaped.replace("\\\\", "").replace("\\|", "")
    assert "&" not in escape_latex(name).replace(r"\&", "")
    assert plain(escaped) == escaped
    assert plain(escape_latex(name)) == escape_latex(name)
