"""What is said of a failure: enough to mend it, and nothing of the customer."""

import json
import time

import pytest
from pydantic import ValidationError
from pymongo.errors import BulkWriteError, OperationFailure

from apps.kit.recovery import reason_for, traceback_of
from contracts import OrderCreated

SECRET = "ana.souza@example.com"


def raised(error: Exception) -> Exception:
    """The error with a traceback, as a handler's."""
    try:
        raise error
    except type(error) as caught:
        return caught


@pytest.mark.parametrize(
    "error",
    [
        BulkWriteError({"writeErrors": [{"code": 121, "op": {"customer": SECRET}}]}),
        OperationFailure(f"document {SECRET} refused", 121),
    ],
)
def test_database_error_is_told_without_the_document_that_it_quotes(error: Exception) -> None:
    """MongoDB's errors hold whole documents: reason and traceback name their class and where it happened."""
    told = reason_for(error) + traceback_of(raised(error))

    assert SECRET not in told
    assert type(error).__name__ in told
    assert "in raised" in told


def test_contract_error_names_fields_and_not_what_stood_in_them() -> None:
    """A broken contract is told field by field, without the input, in the traceback too."""
    try:
        OrderCreated.model_validate(
            OrderCreated.example | {"customer": {"id": "", "email": f"{SECRET} {SECRET}"}}
        )
    except ValueError as error:
        told = reason_for(error) + traceback_of(error)
    assert SECRET not in told
    assert "customer.id: " in told
    assert "customer.email: " in told


def test_long_reason_is_cut() -> None:
    """Headers have a limit, and an error's text has none."""
    assert len(reason_for(RuntimeError("x" * 100_000))) == 1000


@pytest.mark.parametrize("lines", [1000, 160_000])
def test_thousands_of_mistakes_are_told_quickly_and_shortly(lines: int) -> None:
    """However much is wrong in one message, its worker goes on, and the reason fits into a header."""
    body = json.dumps({**OrderCreated.example, "lines": [{}] * lines})
    began = time.process_time()
    with pytest.raises(ValidationError) as refusal:
        OrderCreated.model_validate_json(body)
    reason = reason_for(refusal.value)

    assert time.process_time() - began < 1
    assert reason.startswith("lines")
    assert len(reason) <= 1000
