"""Where a search is kept: a journal on one machine, or PostgreSQL for several drivers."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from bmapest_ray.study.lease import patient, sqlalchemy_url

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

_PATIENT = (
    "create_new_study", "get_study_id_from_name", "get_study_name_from_id", "get_study_directions",
    "get_study_user_attrs", "get_study_system_attrs", "set_study_user_attr",
    "set_study_system_attr", "create_new_trial", "set_trial_param", "set_trial_state_values",
    "set_trial_intermediate_value", "set_trial_user_attr", "set_trial_system_attr", "get_trial",
    "get_all_trials", "get_trial_id_from_study_id_trial_number", "_create_new_trial",
    "_get_trials", "_read_trials_partial",
)  # fmt: skip


def open_storage(journal: Path | None) -> "BaseStorage":
    """Open the journal of a study; None keeps searches in memory."""
    from optuna.storages import InMemoryStorage, JournalStorage
    from optuna.storages.journal import JournalFileBackend

    if journal is None:
        return InMemoryStorage()
    heal_journal(journal)
    return JournalStorage(JournalFileBackend(str(journal)))


def open_database(url: str) -> "BaseStorage":
    """Open a PostgreSQL storage whose calls wait for a server that is away for a while.

    Raises
    ------
    InvalidInput
        If `url` is no such storage.
    """
    from optuna.storages import RDBStorage

    names = [name for name in _PATIENT if hasattr(RDBStorage, name)]
    kind = type(
        "PatientStorage", (RDBStorage,), {n: patient(getattr(RDBStorage, n)) for n in names}
    )
    opened: BaseStorage = kind(sqlalchemy_url(url), engine_kwargs={"pool_pre_ping": True})
    return opened


def heal_journal(journal: Path) -> None:
    """Remove what a killed driver may leave: its lock, and a last line that was cut short.

    Only the one driver of a study may call this.
    """
    for lock in journal.parent.glob(f"{journal.name}.lock*"):
        lock.unlink(missing_ok=True)
    if not journal.exists():
        return
    content = journal.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(journal, whole)
