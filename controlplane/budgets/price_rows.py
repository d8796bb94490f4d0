"""Many prices in one upload, row by row: CSV with a column for each class of usage, or JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from controlplane.budgets.actions.prices import MAX_OWN, costs_nothing, faults_of_model, faults_of_rates
from controlplane.problems import Invalid

MOST_BYTES = 1_000_000
REFUSED = "The prices can't be set like this: nothing was changed."


class Row(NamedTuple):
    """One model's price as it was sent; ``name`` is how errors name the row: its line of CSV or place in JSON, from 1."""

    name: str
    model: str
    rates: dict[str, str]


def read_prices(body: bytes, content_type: str, *, free: bool) -> dict[str, dict[str, str]]:
    """Return rates by model, in lower case; ``Invalid`` names every fault by ``row N.field``.

    Without ``free`` a row by which a model costs nothing is a fault.
    """
    if len(body) > MOST_BYTES:
        raise Invalid("The upload is too large.", errors={"body": f"must have at most {MOST_BYTES:,} bytes"})
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Invalid(REFUSED, errors={"body": f"is not UTF-8: {error}"}) from None
    if "\0" in text:
        raise Invalid(REFUSED, errors={"body": "has a NUL"})
    rows = _csv_rows(text) if content_type in {"text/csv", "application/csv"} else _json_rows(text)
    if not 1 <= len(rows) <= MAX_OWN:
        raise Invalid(REFUSED, errors={"body": f"has {len(rows)} rows, from 1 to {MAX_OWN} are allowed"})
    return _checked(rows, free=free)


def _checked(rows: list[Row], *, free: bool) -> dict[str, dict[str, str]]:
    wanted: dict[str, dict[str, str]] = {}
    seen: dict[str, str] = {}
    errors: dict[str, str] = {}
    for row in rows:
        model = row.model.strip().lower()
        faults = faults_of_model(model) | faults_of_rates(row.rates)
        if model in seen:
            faults["model"] = f"{model[:120]!r} is in {seen[model]} already: names are compared without regard to case"
        elif not faults and not free and costs_nothing(row.rates):
            faults["rates"] = "cost nothing: say free=true if that is meant"
        errors |= {f"{row.name}.{field.removeprefix('rates.')}": text for field, text in faults.items()}
        seen.setdefault(model, row.name)
        wanted[model] = row.rates
    if errors:
        raise Invalid(REFUSED, errors=errors)
    return wanted


def _csv_rows(text: str) -> list[Row]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[Row] = []
    try:
        head = [name.strip().lower() for name in next(reader, [])]
        if "model" not in head or len(set(head)) != len(head):
            raise Invalid(REFUSED, errors={"row 1": "must name the columns, each once: model and classes of usage"})
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            name = f"row {reader.line_num}"
            if len(cells) > len(head):
                raise Invalid(REFUSED, errors={name: f"has {len(cells)} cells, there are {len(head)} columns"})
            said = {key: cell.strip() for key, cell in zip(head, cells, strict=False) if cell.strip()}
            rows.append(Row(name, said.pop("model", ""), said))
    except csv.Error as error:
        raise Invalid(REFUSED, errors={f"row {reader.line_num}": f"is not CSV: {error}"}) from None
    return rows


def _json_rows(text: str) -> list[Row]:
    """Read ``[{"model": …, "rates": {…}}, …]`` or ``{"<model>": {…}, …}``; prices may be texts or numbers, taken as they are written."""
    try:
        document = json.loads(text, parse_float=str, parse_int=str, parse_constant=_no_number, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise Invalid(REFUSED, errors={"body": f"is not JSON: {error}"}) from None
    if isinstance(document, dict) and "prices" in document and isinstance(document["prices"], list):
        document = document["prices"]
    if isinstance(document, dict):
        document = [{"model": model, "rates": rates} for model, rates in document.items()]
    if not isinstance(document, list):
        raise Invalid(REFUSED, errors={"body": 'must be rows like [{"model": "my-model", "rates": {"input": "0.15"}}]'})
    return [_json_row(f"row {place}", each) for place, each in enumerate(document, 1)]


def _json_row(name: str, row: Any) -> Row:
    fault = None
    if not isinstance(row, Mapping) or set(row) != {"model", "rates"} or not isinstance(row["model"], str):
        fault = 'must be like {"model": "my-model", "rates": {"input": "0.15"}}'
    elif not isinstance(row["rates"], Mapping) or not all(isinstance(usd, str) for usd in row["rates"].values()):
        fault = "its rates must be decimal dollars by class of usage"
    if fault:
        raise Invalid(REFUSED, errors={name: fault})
    return Row(name, row["model"], dict(row["rates"]))


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} is there twice.")
    return made


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is not a number.")
