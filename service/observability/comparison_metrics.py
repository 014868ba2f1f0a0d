"""The families of `/metrics` on compared versions: shadows, and feedback on answers."""

from __future__ import annotations

from service.observability.shared_metrics import Family

_MODEL = ("model", "version")
SHADOW_LABELS = (*_MODEL, "shadow")
CHANGES = (-0.5, -0.2, -0.1, -0.05, -0.02, -0.005, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5)
"""Bounds of changes of score."""
BINS = 15
"""Bins of the calibration error, as in training."""

COMPARISON_FAMILIES = (
    Family("shadow_requests_total", "counter", "Requests that a shadow ran again.", SHADOW_LABELS),
    Family(
        "shadow_dropped_total",
        "counter",
        "Requests that it was to run and did not. busy: too many waited; failed: it cannot read or run them.",
        (*SHADOW_LABELS, "why"),
    ),
    Family("shadow_inputs_total", "counter", "Inputs of these requests.", SHADOW_LABELS),
    Family("shadow_agreements_total", "counter", "Inputs that both versions answered alike.", SHADOW_LABELS),
    Family(
        "shadow_score_change",
        "histogram",
        "The shadow's score for the served answer, minus the served score.",
        SHADOW_LABELS,
        CHANGES,
    ),
    Family(
        "shadow_flips_total",
        "counter",
        "Labels that differ: the served one and the shadow's.",
        (*SHADOW_LABELS, "served_label", "shadow_label"),
    ),
    Family(
        "shadow_run_seconds_total",
        "counter",
        "Seconds of runs of the same inputs in each of the two, if both were measured.",
        (*SHADOW_LABELS, "of"),
    ),
    Family(
        "feedback_total",
        "counter",
        "Feedback by its outcome. repeated: the input has feedback already.",
        (*_MODEL, "outcome"),
    ),
    Family(
        "feedback_entities_total",
        "counter",
        "Entities by feedback. right: found; spurious: answered and wrong; missed: not answered.",
        (*_MODEL, "outcome"),
    ),
    Family(
        "feedback_scores_total",
        "counter",
        "Answers, or entities, that feedback judged, by bin of their score.",
        (*_MODEL, "bin", "outcome"),
        full=True,
    ),
    Family("feedback_score_sum_total", "counter", "The sum of the scores in each bin.", (*_MODEL, "bin"), full=True),
    Family("payload_events_total", "counter", "Events written to the payload log.", ("kind",)),
    Family(
        "payload_lost_total",
        "counter",
        "Events that were not. full: too many waited; disk: the file could not be written; redact: the hook failed.",
        ("why",),
    ),
)
SHADOW_AGREEMENT = Family(
    "shadow_agreement", "gauge", "Share of a shadow's inputs that both versions answer alike.", SHADOW_LABELS
)
SHADOW_SCORE_CHANGE = Family(
    "shadow_mean_score_change", "gauge", "Mean change of the served answer's score.", SHADOW_LABELS
)
SHADOW_LATENCY = Family(
    "shadow_latency_ratio", "gauge", "The shadow's time for a run, divided by the served version's.", SHADOW_LABELS
)
SHADOW_DRIFT = Family(
    "shadow_gate_drift",
    "gauge",
    "Population stability index of mean activations, the shadow's against the served version's; the largest of a gate.",
    SHADOW_LABELS,
)
FEEDBACK_ACCURACY = Family("feedback_accuracy", "gauge", "Share of the answers with feedback that are right.", _MODEL)
FEEDBACK_CALIBRATION = Family(
    "feedback_calibration_error",
    "gauge",
    "How far the scores of answers with feedback are from the share that is right, over 15 bins.",
    _MODEL,
)
FEEDBACK_F1 = Family("feedback_f1", "gauge", "F1 of the entities of answers with feedback.", _MODEL)
COMPARISON_DERIVED = (
    SHADOW_AGREEMENT,
    SHADOW_SCORE_CHANGE,
    SHADOW_LATENCY,
    SHADOW_DRIFT,
    FEEDBACK_ACCURACY,
    FEEDBACK_CALIBRATION,
    FEEDBACK_F1,
)
