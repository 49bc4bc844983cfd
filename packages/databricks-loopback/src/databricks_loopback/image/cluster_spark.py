"""`spark` and `sc` of a driver: one session, defined before the task runs and started on first use.

What belongs here: the two globals, and giving user code the cluster's session. What does not: its settings, which the
workspace writes to spark-defaults.conf as a cluster does.

On Databricks the session exists before any user code runs. Here the JVM starts on first use, because 5 to 10 s are too
much for a task that never uses Spark; so every way to get a session calls `_Session.start` first.
"""

from __future__ import annotations

import functools
import importlib
import importlib.machinery
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

_SESSION_MODULE = "pyspark.sql.session"


class _Lazy:
    """Stands in for an object that is made on first use; `isinstance` sees the object's class."""

    __slots__ = ("_kind", "_make")

    def __init__(self, make: Callable[[], Any], kind: Callable[[], type]) -> None:
        object.__setattr__(self, "_make", make)
        object.__setattr__(self, "_kind", kind)

    @property  # type: ignore[misc] # isinstance falls back to this if the type itself does not match
    def __class__(self) -> type:
        return object.__getattribute__(self, "_kind")()

    def __getattr__(self, name: str) -> Any:
        return getattr(object.__getattribute__(self, "_make")(), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(object.__getattribute__(self, "_make")(), name, value)

    def __repr__(self) -> str:
        return repr(object.__getattribute__(self, "_make")())


class _Session:
    """The cluster's session."""

    def __init__(
        self, namespace: dict[str, Any], *, with_context: bool, schemas: Sequence[str], server: Any = None
    ) -> None:
        self._namespace, self._with_context, self._schemas, self._server = namespace, with_context, schemas, server
        self._lock = threading.RLock()
        self._session: Any = None
        self._starting = False
        self._build: Callable[[Any], Any] | None = None

    def start(self) -> Any:
        """Return the session, starting it on the first call."""
        with self._lock:
            if self._session is None and not self._starting:
                self._starting = True
                try:
                    self._session = self._first()
                finally:
                    self._starting = False
                self._namespace["spark"] = self._session
                if self._with_context:
                    self._namespace["sc"] = self._session.sparkContext
            return self._session

    def context(self) -> Any:
        """Return the session's SparkContext."""
        return self.start().sparkContext

    def _first(self) -> Any:
        session_class = _import("pyspark.sql").SparkSession
        assert self._build is not None, "importing SparkSession sets it"
        builder = session_class.Builder()
        if self._server is None:
            builder = builder.appName("Databricks Shell")
        else:
            self._server.start()
        session = self._build(builder)
        for name in self._schemas:
            session.sql(f"CREATE SCHEMA IF NOT EXISTS `{name}`")
        return session

    def adopt(self, module: ModuleType) -> None:
        """Make `pyspark.sql.session`, just imported, start the cluster's session before it returns any."""
        session_class: Any = vars(module)["SparkSession"]
        self._build = build = session_class.Builder.getOrCreate
        active = session_class.__dict__["getActiveSession"].__func__

        @functools.wraps(build)
        def get_or_create(builder: Any) -> Any:
            self.start()
            return build(builder)

        @functools.wraps(active)
        def get_active_session(cls: Any) -> Any:
            self.start()
            return active(cls)

        session_class.Builder.getOrCreate = get_or_create
        session_class.getActiveSession = classmethod(get_active_session)


class _ChangeOnImport:
    """An import hook that passes modules to functions once they are loaded.

    Args:
        changes: The functions, by name of the module.
    """

    def __init__(self, changes: Mapping[str, Callable[[ModuleType], object]]) -> None:
        self._changes = changes

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in self._changes:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None:
            return spec
        loader: Any = spec.loader
        execute, change = loader.exec_module, self._changes[name]

        def exec_module(module: ModuleType) -> None:
            execute(module)
            change(module)

        loader.exec_module = exec_module
        return spec


def define_spark(
    namespace: dict[str, Any],
    *,
    with_context: bool,
    schemas: Sequence[str],
    connect: ModuleType | None,
    take_tags: Callable[[ModuleType], None],
) -> None:
    """Define `spark`, and `sc` where the access mode has one, in the task's globals.

    Args:
        namespace: The globals.
        with_context: Whether there is `sc`.
        schemas: Schemas of the metastore.
        connect: The module `cluster_connect` on serverless compute.
        take_tags: Makes sessions understand `SET TAGS`.
    """
    server = None if connect is None else connect.Server()
    session = _Session(namespace, with_context=with_context, schemas=schemas, server=server)
    changes = {} if connect is None else {"pyspark.sql.connect.session": take_tags, **connect.refusals()}

    def adopt(module: ModuleType) -> None:
        session.adopt(module)
        if connect is None:
            take_tags(module)

    sys.meta_path.insert(0, _ChangeOnImport({**changes, _SESSION_MODULE: adopt}))

    namespace["spark"] = _Lazy(session.start, lambda: _import("pyspark.sql").SparkSession)
    if with_context:
        namespace["sc"] = _Lazy(session.context, lambda: _import("pyspark").SparkContext)


def _import(name: str) -> Any:
    """Import a module on first use: most tasks never need pyspark, whose import takes half a second."""
    return importlib.import_module(name)
