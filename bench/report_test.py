#!/usr/bin/env python3
"""The pure parts of the report: medians, ratios, verdicts, texts, the places of a page; and failures of a measure."""
from __future__ import annotations

import contextlib
import io
import os
import sys
import tempfile
import unittest

import cluster
import compare
import measures
import page
import rows
from rows import Goal, Line


def data_of(nabata: dict[str, list[dict]], etcd: dict[str, list[dict]]) -> dict:
    return {"when": "2026-01-01", "cores": 2, "rounds": 3, "seconds": 5, "versions": {"nabata": "1", "etcd": "2"},
            "runs": {"nabata": nabata, "etcd": etcd}}


def puts(*rates: float, **more: float) -> list[dict]:
    return [{"ops_per_s": r, "p50_us": 1.0, "p99_us": 2.0, "server_cpu_us": 3.0, "failed": 0, **more} for r in rates]


def line_of(data: dict, name: str) -> Line:
    return next(line for line in rows.lines(data) if line.row.name == name)


class Figures(unittest.TestCase):
    def test_three_digits_count(self) -> None:
        for value, text in ((123456.7, "123,457"), (99.94, "99.9"), (12.34, "12.3"), (1.234, "1.23"), (0.1234, "0.123"),
                            (0, "0")):
            self.assertEqual(rows.form(value), text)

    def test_the_median_stands_with_least_and_most(self) -> None:
        data = data_of({"put-8x64": puts(300, 100, 200)}, {})
        self.assertEqual(line_of(data, "put-8x64").cells["nabata"].text(), "200 (100–300)")

    def test_a_list_in_a_result_is_as_many_figures(self) -> None:
        data = data_of({"keys-1000000": [{"restart_s": [1.0, 3.0, 2.0], "anonymous": 2**20, "resident": 2**21}]}, {})
        self.assertEqual(line_of(data, "restart-1m").cells["nabata"].middle(), 2.0)
        self.assertEqual(line_of(data, "memory-1m").cells["nabata"].middle(), 1.0)


class Ratios(unittest.TestCase):
    def test_more_requests_and_less_time_are_both_better(self) -> None:
        data = data_of({"put-8x64": puts(800), "put-1": puts(1, p50_us=50.0)},
                       {"put-8x64": puts(100), "put-1": puts(1, p50_us=100.0)})
        self.assertEqual(line_of(data, "put-8x64").ratio, 8)
        self.assertEqual(line_of(data, "put-1-p50").ratio, 2)

    def test_a_goal_is_reached_at_its_ratio_and_not_below(self) -> None:
        self.assertTrue(Goal(8).reached(None, 8.0))
        self.assertFalse(Goal(8).reached(None, 7.99))
        self.assertIsNone(Goal(8).reached(1.0, None))

    def test_a_bound_looks_at_nabata_alone(self) -> None:
        self.assertTrue(Goal(at_most=4).reached(4.0, None))
        self.assertFalse(Goal(at_most=4).reached(4.1, 100.0))
        self.assertIsNone(Goal(at_most=4).reached(None, None))

    def test_marks_say_what_is_reached(self) -> None:
        line = line_of(data_of({"put-8x64": puts(900)}, {"put-8x64": puts(100)}), "put-8x64")
        self.assertEqual((line.goal_text(line.row.ship), line.goal_text(line.row.aim)), ("8x ✓", "15x ✗"))
        alone = line_of(data_of({"put-8x64": puts(900)}, {}), "put-8x64")
        self.assertEqual((alone.ratio_text(), alone.goal_text(alone.row.ship)), ("", "8x ?"))

    def test_a_load_generator_at_its_limit_is_marked(self) -> None:
        data = data_of({"put-8x64": puts(900, client_cores=0.9)}, {"put-8x64": puts(100, client_cores=0.2)})
        self.assertEqual(line_of(data, "put-8x64").ratio_text(), "9.00x *")
        self.assertIn("may be the limit", rows.as_text(data))


class Failures(unittest.TestCase):
    def test_a_row_says_why_and_the_others_stay(self) -> None:
        data = data_of({"put-8x64": [{"error": "no disk"}], "put-100": puts(600)},
                       {"put-8x64": puts(100), "put-100": puts(100)})
        text = rows.as_text(data)
        self.assertIn("nabata: no disk", text)
        self.assertIn("not measured", text)
        self.assertIn("6.00x", text)

    def test_a_round_that_failed_leaves_the_median_of_the_others(self) -> None:
        line = line_of(data_of({"put-8x64": [*puts(100, 300), {"error": "x"}]}, {}), "put-8x64")
        self.assertEqual(line.cells["nabata"].middle(), 200)
        self.assertEqual(len(line.errors()), 1)

    def test_failed_requests_are_told(self) -> None:
        line = line_of(data_of({"put-8x64": puts(100, failed=7)}, {}), "put-8x64")
        self.assertIn("7 requests failed", line.errors()[0])

    def test_part_of_a_measure_may_fail(self) -> None:
        data = data_of({"keys-1000000": [{"restart_s": {"error": "gone"}, "anonymous": 2**20, "resident": 1}]}, {})
        self.assertEqual(line_of(data, "memory-1m").cells["nabata"].middle(), 1.0)
        self.assertEqual(line_of(data, "restart-1m").cells["nabata"].errors, ["gone"])

    def test_a_measure_that_throws_is_recorded_with_its_reason(self) -> None:
        got: list[tuple] = []
        run = measures.Run("nabata", "", "", 1, {"idle"}, lambda *result: got.append(result))

        def fails() -> dict:
            raise RuntimeError("it fell over")

        run.attempt("idle", fails)
        run.attempt("held", fails)  # not wanted
        self.assertEqual(got, [("nabata", "idle", {"error": "it fell over"})])

    def test_a_command_that_fails_gives_its_last_words(self) -> None:
        with self.assertRaisesRegex(RuntimeError, "failed with 3: the end"):
            cluster.call([sys.executable, "-c", "import sys; print('a\\nthe end', file=sys.stderr); sys.exit(3)"])
        with self.assertRaisesRegex(RuntimeError, "did not end within 0 s"):
            cluster.call(["sleep", "60"], timeout=0.05)

    def test_no_figures_without_a_request_that_went_well(self) -> None:
        with self.assertRaisesRegex(RuntimeError, "no request succeeded"):
            measures.figures({"requests": 3, "failed": 3, "errors": {"refused": 3}}, 0)


class Choice(unittest.TestCase):
    def test_every_row_has_a_measure_that_exists_and_a_name_of_its_own(self) -> None:
        loads = {load.name for load in measures.LOADS}
        other = {"idle", "held", "outage", "compaction", "size", *compare.MANY}
        for row in rows.ROWS:
            self.assertIn(row.measure, loads | other)
        self.assertEqual(len({r.name for r in rows.ROWS}), len(rows.ROWS))
        self.assertFalse(loads & other)

    def test_only_takes_rows_and_measures(self) -> None:
        self.assertEqual(rows.measures_of(["put-1-p50", "held"]), {"put-1", "held"})
        with self.assertRaises(KeyError):
            rows.measures_of(["putt"])

    def test_ten_million_keys_only_when_asked_for(self) -> None:
        self.assertNotIn("keys-10000000", compare.options_of(["--nabata", "x"]).wanted)
        self.assertIn("keys-10000000", compare.options_of(["--nabata", "x", "--ten-million"]).wanted)
        self.assertEqual(compare.options_of(["--nabata", "x", "--only", "restart-10m"]).wanted, {"keys-10000000"})

    def test_merging_keeps_what_is_not_measured_again(self) -> None:
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            out = os.path.join(folder, "bench.json")
            first = compare.Report(compare.options_of(["--nabata", "x", "--out", out]), {"nabata": "/bin/true"})
            first.add("nabata", "put-1", {"p50_us": 1.0})
            first.add("nabata", "outage", {"s": 1.0})
            again = compare.options_of(["--nabata", "x", "--out", out, "--merge", "--only", "outage"])
            second = compare.Report(again, {"nabata": "/bin/true"})
            second.add("nabata", "outage", {"s": 2.0})
            self.assertEqual(second.data["again"][0]["measures"], ["outage"])
            self.assertIn("Measured again", page.facts(second.data))
            self.assertEqual(second.data["runs"]["nabata"], {"put-1": [{"p50_us": 1.0}], "outage": [{"s": 2.0}]})


class Page(unittest.TestCase):
    PAGE = "".join(f"before {n}\n<!-- {n}: written by bench/page.py -->\nold\n<!-- {n}: end -->\nafter\n"
                   for n in ("facts", "goals", "loads"))

    def test_only_what_stands_between_the_marks_changes(self) -> None:
        data = data_of({"put-8x64": puts(900)}, {"put-8x64": puts(100)})
        text = page.written(self.PAGE, data)
        self.assertNotIn("old", text)
        for name in ("facts", "goals", "loads"):
            self.assertIn(f"before {name}\n<!-- {name}: written", text)
        self.assertIn("| durable put, 8 connections x 64 in flight | /s | 900 | 100 | **9.00x** | 8x ✓ | 15x ✗ |", text)
        self.assertEqual(page.written(text, data), text)

    def test_a_page_without_its_marks_is_refused(self) -> None:
        with self.assertRaisesRegex(ValueError, "no place for goals"):
            page.written(self.PAGE.replace("goals: end", "goals"), data_of({}, {}))

    def test_the_page_at_hand_has_its_marks(self) -> None:
        with open(os.path.join(page.ROOT, "docs", "performance.md"), encoding="utf-8") as f:
            page.written(f.read(), data_of({}, {}))

    def test_a_load_at_a_given_rate_has_no_ratio_of_rates(self) -> None:
        both = {"put-500": puts(500), "put-1": puts(100)}
        text = page.loads(data_of(both, {"put-500": puts(500), "put-1": puts(50)}))
        self.assertIn("| put, 500/s | 500 · 500 |  |", text)
        self.assertIn("| put, 1 client | 100 · 50.0 | **2.00x** |", text)


if __name__ == "__main__":
    unittest.main()
