"""A physiological generator of 12-lead ECGs. It can write a set of records in the layout of PTB-XL.

statements  the SCP-ECG statements that can occur
conditions  patients with their conditions
heart       the electrical sources of a normal heart, with individual variation
disease     changes of the sources by each condition
leadfield   from sources to eight independent leads
rhythm      the times of the beats
render      from the kernels of every beat to signals and wave masks
compose     one record of one patient
noise       noise on the nine electrodes
generate    a set of records as arrays
write       a set of records on disk
"""

from einthoven.data.synthetic.generate import Generated, generate
from einthoven.data.synthetic.write import write_synthetic

__all__ = ["Generated", "generate", "write_synthetic"]
