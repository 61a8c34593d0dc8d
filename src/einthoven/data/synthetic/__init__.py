"""A physiological generator of 12-lead ECGs, written to disk in PTB-XL's own layout.

conditions  who the patients are and what they have
heart       the sources of a normal heart, and what is individual about it
disease     what each condition does to the sources
leadfield   sources -> eight independent leads
rhythm      when the heart beats
render      kernels of every beat -> signal, wave masks
compose     one record of one patient
noise       what the recording adds, on the nine electrodes
generate    a set of records as arrays
write       a set of records on disk
"""

from einthoven.data.synthetic.generate import Generated, generate
from einthoven.data.synthetic.write import write_synthetic

__all__ = ["Generated", "generate", "write_synthetic"]
