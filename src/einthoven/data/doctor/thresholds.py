"""Every threshold of the record doctor, with its reason.

"Development half" means the records of PTB-XL with an odd ecg_id among those of 1984-1988, at 100 Hz. The thresholds
were chosen on this half. `bench/bench_doctor.py` measures the doctor on the even half. Two thresholds were widened
after a look at all records and at other corpora: HALF_POWER and the lower AMPLITUDE. A value without a figure is a
judgement.
"""

from __future__ import annotations

# Samples ------------------------------------------------------------------------------------------------------------

# Fraction of a lead's samples. With more invalid samples, the lead is lost and the record has an error.
INVALID = 0.5

# mV peak to peak. The faintest lead of the development half has 0.2.
FLAT = 0.02

# Seconds of one value. Even a quiet isoelectric line changes by a microvolt or two within a second.
STUCK = 1.0

# Seconds at the largest or smallest value of a lead: eight samples at 100 Hz. The development half has up to 0.06.
CLIPPED = 0.08

# Repeatability. A lead below it does not show the heart, if the other leads do. 95 % of the leads of the development
# half have at least 0.9. 90 % of leads of white noise have -0.3 to 0.3.
FOLLOWS = 0.2

# Median repeatability of all leads. Below it, a single lead cannot be blamed.
OTHERS_FOLLOW = 0.8

# Laws and units -----------------------------------------------------------------------------------------------------

# Fraction of the RMS of the limb leads. In the development half, rounding to 5 µV makes at most 5 %.
LAW_PART = 0.10

# mV RMS: four steps of the coarsest recorders (5 µV).
LAW_LEAST = 0.02

# mV: median over the leads of the span in two seconds. The development half has 0.4 to 3.2.
AMPLITUDE = (0.05, 20.0)

# Factor to mV -> unit in which the numbers may have been.
UNITS = {1e-3: "µV", 1e3: "V", 5e-3: "counts of 5 µV", 1e-6: "nV"}

# mV: the median amplitude of the development half. The unit that comes nearest to it is suggested.
TYPICAL = 1.1

# Electrodes (`swap.py` describes the scores) ------------------------------------------------------------------------

# Score. 0.8 % of the development half are below it, and 98 % of the same records with exchanged arms.
SWAP_LA_RA = -0.2

# Score. 0.4 % and 95 %, as above.
SWAP_RA_LL = -0.4

# QRS of II over the mean QRS of I and III. If both legs are in the lead, there is no voltage.
SWAP_RA_RL = 0.08

# mV: a P wave with a mean of this size counts with three quarters of its weight.
P_SCALE = 0.02

# Weight of P compared with a cosine between -1 and 1. These were the best values of those tried.
P_WEIGHT = {"LA/RA": 0.5, "RA/LL": 0.3}

# Gain in the summed correlation of neighbours if two chest leads are exchanged. Each is passed by 0.4 % of the
# development half, and all together by 2 %.
SWAP_CHEST = {"V1/V2": 0.12, "V2/V3": 0.40, "V3/V4": 0.06, "V4/V5": 0.03, "V5/V6": 0.10}

# Sampling frequency and heart ---------------------------------------------------------------------------------------

# Heart rate per minute in ten seconds at rest.
RATE = (25.0, 220.0)

# Frequency in Hz below which half of the power above 1 Hz is. 98 % of the development half have 3.2 to 12.7, also at
# 500 Hz. If the stated sampling frequency is 2.5 times too high, records have 8 to 32; if it is five times too low,
# they have 0.6 to 2.5.
HALF_POWER = (1.8, 16.0)

# Median repeatability of the leads. 99.5 % of the development half have at least 0.77, and white noise has up to 0.2.
REPEATS = 0.4

# Seconds. Shorter records have too few beats for a judgement of rate and repetition.
SECONDS = 4.0

# Seconds. Shorter records have no useful spectrum. Ten seconds with a rate stated five times too high become two.
SPECTRUM_SECONDS = 1.5

# Years. The tables of normal limits for children end here (Rijnbeek et al., Eur. Heart J. 22:702, 2001).
CHILD = 16.0

# The limits of pacing spikes are in `einthoven.functional.rhythm`.

# Noise --------------------------------------------------------------------------------------------------------------

# Decibels of the ECG (0.5-40 Hz) over the noise. A lower value is a caution. The noise is twice, half and a third as
# large as the ECG. In the development half, 16 % (baseline) and 2.5 % (muscle) are below; mains cannot be measured at
# 100 Hz. Baseline wander is the most common and the least harmful of the three.
SNR = {"baseline": -6.0, "powerline": 6.0, "muscle": 10.0}

# Hz.
MAINS = (50.0, 60.0)
