"""A client for the service, synchronous and asynchronous. It needs none of the service's dependencies.

    from service.client import Client

    with Client("http://127.0.0.1:8000") as client:
        answer = client.predict(["A great film.", "A dull one."])
        [prediction.label for prediction in answer.predictions]

A list may have any length: it is cut into requests, several are sent at once, and the answers are put together in
order. A service that is full or restarting is asked again after its `Retry-After`. An error answer is raised as a
`Problem`, with a pointer to the wrong field. Every error is a `ClientError`.
"""

from service.client.answers import (
    Ablation,
    CardData,
    Contributions,
    Deletion,
    DeletionEffects,
    Entities,
    Entity,
    Faithfulness,
    Feedback,
    LayerGates,
    ModelInfo,
    Models,
    OverTime,
    Place,
    Predictions,
    Sentiment,
    Shadow,
    Token,
    Trace,
    Traces,
    UnitCard,
    UnitStatistics,
)
from service.client.base import Setting
from service.client.clients import AsyncClient, Client
from service.client.problems import (
    Busy,
    ClientError,
    FieldProblem,
    Forbidden,
    InvalidAnswer,
    InvalidRequest,
    NotFound,
    Problem,
    TimedOut,
    TooLarge,
    Unreachable,
)
from service.client.streams import AsyncTextStream, TextStream

__all__ = [
    "Ablation",
    "AsyncClient",
    "AsyncTextStream",
    "Busy",
    "CardData",
    "Client",
    "ClientError",
    "Contributions",
    "Deletion",
    "DeletionEffects",
    "Entities",
    "Entity",
    "Faithfulness",
    "Feedback",
    "FieldProblem",
    "Forbidden",
    "InvalidAnswer",
    "InvalidRequest",
    "LayerGates",
    "ModelInfo",
    "Models",
    "NotFound",
    "OverTime",
    "Place",
    "Predictions",
    "Problem",
    "Sentiment",
    "Setting",
    "Shadow",
    "TextStream",
    "TimedOut",
    "Token",
    "TooLarge",
    "Trace",
    "Traces",
    "UnitCard",
    "UnitStatistics",
    "Unreachable",
]
