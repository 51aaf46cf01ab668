"""Which errors of a shared database are waited for."""

import pytest
from sqlalchemy import exc

from bmapest_ray.study.lease import is_outage, patient, reason


def lost() -> Exception:
    error: Exception = exc.OperationalError("SELECT 1", {}, Exception("server closed"))
    return error


def second_query_in_a_lost_transaction() -> None:
    """What Optuna does when its first query fails: it asks again, then wraps what comes of that."""
    try:
        try:
            raise lost()
        except exc.OperationalError:
            # no "from": SQLAlchemy raises this one without naming its cause
            raise exc.PendingRollbackError("Can't reconnect until it is rolled back")  # noqa: B904
    except exc.SQLAlchemyError as error:
        raise RuntimeError("An exception is raised during the commit.") from error


def test_the_consequence_of_a_lost_connection_is_an_outage() -> None:
    with pytest.raises(RuntimeError) as raised:
        second_query_in_a_lost_transaction()
    assert is_outage(raised.value)
    assert reason(raised.value).endswith("server closed")
    assert not is_outage(RuntimeError("bad value"))
    assert not is_outage(exc.IntegrityError("INSERT", {}, Exception("duplicate key")))


def test_a_call_is_made_again_until_the_database_answers() -> None:
    class Storage:
        calls = 0

        @patient
        def ask(self) -> str:
            self.calls += 1
            if self.calls < 3:
                second_query_in_a_lost_transaction()
            return "answer"

    storage = Storage()
    assert storage.ask() == "answer"
    assert storage.calls == 3
