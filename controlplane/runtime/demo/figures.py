"""How real traffic is spread: quantiles of production traces, to draw gaps and token counts from.

Source: Azure LLM inference trace 2023 (github.com/Azure/AzurePublicDataset, AzureLLMInferenceTrace_conv.csv with 19,366
requests and AzureLLMInferenceTrace_code.csv with 8,819), CC-BY 4.0; Patel et al., "Splitwise", ISCA 2024. The source has no
tenants, latencies or failures: those of the demo world are invented.
"""

from __future__ import annotations

from bisect import bisect_right

PROBABILITIES = (0.0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999, 1.0)

Quantiles = tuple[float, ...]

CHAT_INPUT: Quantiles = (2, 29, 181, 207, 387, 403, 703, 1020, 1071, 1130, 1315, 2735, 4083, 4142, 6212, 14050)
CHAT_OUTPUT: Quantiles = (7, 16, 41, 54, 77, 91, 103, 129, 177, 384, 400, 424, 451, 601, 954, 1000)
CODE_INPUT: Quantiles = (3, 17, 75, 147, 385, 770, 1075, 1469, 1909, 2433, 3193, 5194, 7315, 7436, 7437, 7437)
CODE_OUTPUT: Quantiles = (6, 6, 6, 7, 8, 9, 11, 13, 16, 20, 29, 55, 90, 252, 831, 1899)
# Short questions that are sorted into boxes: invented, as is who asks them.
TRIAGE_INPUT: Quantiles = (8, 9, 11, 13, 16, 19, 22, 26, 30, 35, 42, 55, 70, 110, 180, 240)
TRIAGE_OUTPUT: Quantiles = (4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 10, 11, 13, 16, 20)
# Gaps between arrivals of the conversation trace, as multiples of their mean.
GAPS: Quantiles = (
    *(0.0, 0.006, 0.033, 0.088, 0.205, 0.337, 0.481, 0.658),
    *(0.879, 1.183, 1.598, 2.328, 3.125, 4.927, 7.914, 23.863),
)


def draw(quantiles: Quantiles, chance: float) -> float:
    """Return the value at probability ``chance`` (0 to 1), linear between the known quantiles."""
    place = min(bisect_right(PROBABILITIES, chance), len(PROBABILITIES) - 1)
    low, high = PROBABILITIES[place - 1], PROBABILITIES[place]
    part = (chance - low) / (high - low)
    return quantiles[place - 1] + part * (quantiles[place] - quantiles[place - 1])


def draw_count(quantiles: Quantiles, chance: float) -> int:
    """Return a whole number of at least 1."""
    return max(1, round(draw(quantiles, chance)))
