"""The report's tables of the further metrics."""

from __future__ import annotations

import numpy as np

from pipeline.report.further import further_tables
from pipeline.report.html import render
from tests.pipeline.report.test_report import make_report


def test_further_metrics_have_a_table_of_their_own() -> None:
    plain = make_report()
    assert not further_tables(plain)
    assert "Further metrics" not in render(plain)
    values = np.where(plain.summary["category"] == "bolt", np.nan, 0.4321)
    summary = plain.summary.assign(full_pixel_ap_mean=values, full_pixel_ap_std=0.0)
    reasons = {("bolt", 2, 0, "full_pixel_ap"): "no defect <pixel>"}
    report = make_report(summary=summary, reasons=reasons)
    first, second = further_tables(report)
    assert (first.shots, second.shots, first.headings) == (2, 1, ("Pixel AP",))
    cells = {row.label: row.cells[0] for row in first.rows}
    assert cells["nut"].text == cells["Mean"].text == "43.2"
    assert (cells["bolt"].value, cells["bolt"].note) == ("", "no defect <pixel>")
    page = render(report)
    assert '<th scope="col">Pixel AP</th>' in page
    assert 'title="no defect &lt;pixel&gt;"' in page
