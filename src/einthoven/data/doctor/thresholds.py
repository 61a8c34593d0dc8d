"""Every threshold of the record doctor, with its reason.

"Development half": the records of PTB-XL with an odd ecg_id among those at hand (recordings of 1984-1988, 100 Hz); the
even half is that of `bench/bench_doctor.py`. Thresholds were chosen on the first; two were widened after looking at
all records and at others (HALF_POWER, and the lower AMPLITUDE). Where no figure stands, the value is a judgement.
"""

from __future__ import annotations

# Samples ------------------------------------------------------------------------------------------------------------
INVALID = 0.5  # of a lead's samples: beyond, the lead is lost and the record an error; below, a caution
FLAT = 0.02  # mV peak to peak: the faintest lead of the development half has 0.2
STUCK = 1.0  # s of one value: even a quiet isoelectric line changes by a microvolt or two within a second
CLIPPED = 0.08  # s at the largest or smallest value of a lead: eight samples at 100 Hz; the development half has 0.06
# Repeatability below which a lead shows something else than the heart, if the others show it: 95 % of the leads of the
# development half have 0.9 and more, 90 % of leads of white noise -0.3 to 0.3
FOLLOWS = 0.2
OTHERS_FOLLOW = 0.8  # median repeatability of all leads, without which no single lead can be blamed

# Laws and units -----------------------------------------------------------------------------------------------------
LAW_PART = 0.10  # of the limb leads' RMS: rounding to 5 µV makes 5 % at most in the development half
LAW_LEAST = 0.02  # mV RMS: four steps of the coarsest recorders (5 µV)
AMPLITUDE = (0.05, 20.0)  # mV: median over leads of the span in two seconds; development half 0.4 to 3.2
UNITS = {1e-3: "µV", 1e3: "V", 5e-3: "counts of 5 µV", 1e-6: "nV"}  # factor to mV -> what the numbers may have been
TYPICAL = 1.1  # mV, the median of the development half: the nearest unit is named

# Electrodes (`swap.py` says how the scores are made) ---------------------------------------------------------------
SWAP_LA_RA = -0.2  # score; 0.8 % of the development half lie below, 98 % of the same records with arms exchanged
SWAP_RA_LL = -0.4  # score; 0.4 % and 95 %
SWAP_RA_RL = 0.08  # QRS of II over the mean QRS of I and III: both legs in the lead, so that no voltage is left
P_SCALE = 0.02  # mV: a P wave whose mean is of this size speaks at three quarters of its weight
P_WEIGHT = {"LA/RA": 0.5, "RA/LL": 0.3}  # beside a cosine between -1 and 1; best of those tried
# Gain in the summed correlation of neighbours when two chest leads are exchanged; 0.4 % each of the development half,
# 2 % together
SWAP_CHEST = {"V1/V2": 0.12, "V2/V3": 0.40, "V3/V4": 0.06, "V4/V5": 0.03, "V5/V6": 0.10}

# Sampling frequency and heart ----------------------------------------------------------------------------------------
RATE = (25.0, 220.0)  # per minute, in ten seconds at rest
# Hz below which half of the power above 1 Hz lies; development half 3.2 to 12.7 (98 %), and the same at 500 Hz. Stated
# 2.5 times too high, records have 8 to 32; five times too low, 0.6 to 2.5.
HALF_POWER = (1.8, 16.0)
REPEATS = (
    0.4  # median repeatability of the leads: 99.5 % of the development half have 0.77 and more, white noise up to 0.2
)
SECONDS = 4.0  # shorter strips hold too few beats for rate and repetition to be judged
SPECTRUM_SECONDS = 1.5  # shorter ones have no spectrum; ten seconds stated five times too fast are two
CHILD = 16.0  # years: the tables of normal limits for children end here (Rijnbeek et al., Eur. Heart J. 22:702, 2001)
SPIKE_FS = 500.0  # Hz: a pacing spike lasts 0.5 to 2 ms
SPIKE = 0.15  # mV above 100 Hz, where a QRS has little
SPIKE_NOISE = 12.0  # times the median absolute value there: no burst of muscle noise
SPIKE_BEATS = 0.5  # of the beats with a spike within 120 ms before: not one artefact

# Noise: decibels of the ECG (0.5-40 Hz) over the disturbance; below, a caution -------------------------------------
# Twice, half and a third of the ECG's amplitude; 16 %, unknown (at 100 Hz) and 2.5 % of the
# development half. Wander is the most common and the least harmful of the three.
SNR = {"baseline": -6.0, "powerline": 6.0, "muscle": 10.0}
MAINS = (50.0, 60.0)  # Hz
