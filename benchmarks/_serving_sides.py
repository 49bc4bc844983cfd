"""The servers that the benchmark of serving compares, each as a program of its own.

What belongs here: what MLflow does not bring: our re-creation of the seed project's app, and an application that does
nothing. What does not: measuring (`serving`).

The seed's app is re-created from its description: FastAPI, a payload type made from the model's signature, the model as
`mlflow.pyfunc` has it, each prediction handed to a reporter, here one that keeps it in memory.

Annotations are not postponed: FastAPI reads that of the payload.
"""

import sys
from collections.abc import MutableMapping
from datetime import UTC, datetime
from typing import Any

import mlflow
import pandas as pd
import uvicorn
from fastapi import FastAPI
from pydantic import create_model


async def empty(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
    """Read a request and answer two bytes."""
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"{}"})


def seed_app(model_uri: str) -> Any:
    """Return the app of the seed project, rewritten from its description."""
    model = mlflow.pyfunc.load_model(model_uri)
    fields: dict[str, Any] = {column.name: (float, ...) for column in model.metadata.get_input_schema().inputs}
    payload: Any = create_model("Payload", **fields)
    app, reported = FastAPI(), []

    @app.post("/latest/invocations")
    def invoke(request: payload) -> dict[str, Any]:
        value = float(model.predict(pd.DataFrame([request.model_dump()]))[0])
        found = {"value": value, "model_version": "1", "predicted_at": datetime.now(UTC).isoformat()}
        reported.append(found)
        del reported[:-1_000]
        return found

    return app


if __name__ == "__main__":
    kind, port, uri = sys.argv[1:4]
    served = empty if kind == "empty" else seed_app(uri)
    uvicorn.run(served, host="127.0.0.1", port=int(port), log_level="warning", access_log=False, lifespan="off")
