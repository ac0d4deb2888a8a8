"""Tide heights at Port Ellery and the headroom under the harbour crossing.

The height of the tide is the mean level plus five cosine waves, one per tidal constituent.
Heights are in metres above chart datum and times in hours after midnight on 1 January 2017.

    python tide_model.py 48        prints the high and low waters of the first 48 hours
"""

import math
import sys
from dataclasses import dataclass

MEAN_LEVEL_M = 2.90

# The underside of the closed lifting span.
SPAN_UNDERSIDE_M = 12.56

# The bridge keeper raises the span when a mast would pass with less room than this.
SAFETY_MARGIN_M = 0.75


@dataclass(frozen=True)
class Constituent:
    name: str
    amplitude_m: float
    degrees_per_hour: float
    phase_degrees: float


CONSTITUENTS = (
    Constituent("M2", 1.62, 28.9841042, 141.0),
    Constituent("S2", 0.54, 30.0000000, 186.0),
    Constituent("N2", 0.31, 28.4397295, 119.0),
    Constituent("K1", 0.12, 15.0410686, 72.0),
    Constituent("O1", 0.09, 13.9430356, 318.0),
)


def height_m(hours: float) -> float:
    """The height of the tide."""
    level = MEAN_LEVEL_M
    for wave in CONSTITUENTS:
        angle = math.radians(wave.degrees_per_hour * hours - wave.phase_degrees)
        level += wave.amplitude_m * math.cos(angle)
    return level


def mean_high_water_springs_m() -> float:
    """The usual height of high water when the two largest constituents act together."""
    return MEAN_LEVEL_M + CONSTITUENTS[0].amplitude_m + CONSTITUENTS[1].amplitude_m


def headroom_m(hours: float) -> float:
    """The room between the water and the closed lifting span."""
    return SPAN_UNDERSIDE_M - height_m(hours)


def must_lift(mast_m: float, hours: float) -> bool:
    """Whether the bridge keeper must raise the span for a boat with this mast."""
    return headroom_m(hours) - mast_m < SAFETY_MARGIN_M


def turning_points(hours: float, step: float = 0.1) -> list[tuple[float, float, str]]:
    """High and low waters before `hours`, each as (time, height, "high" or "low")."""
    found = []
    for index in range(1, round(hours / step)):
        before, here, after = (height_m((index + shift) * step) for shift in (-1, 0, 1))
        if before < here >= after:
            found.append((index * step, here, "high"))
        elif before > here <= after:
            found.append((index * step, here, "low"))
    return found


def headroom_at_springs() -> float:
    """The clearance that the report on the crossing gives."""
    return SPAN_UNDERSIDE_M - mean_high_water_springs_m()


def main() -> None:
    hours = float(sys.argv[1]) if len(sys.argv) > 1 else 24.0
    print(f"headroom at mean high water springs: {headroom_at_springs():.2f} m")
    for time, height, kind in turning_points(hours):
        print(f"{time:6.1f} h  {kind:4}  {height:5.2f} m  headroom {headroom_m(time):5.2f} m")


if __name__ == "__main__":
    main()
