"""A physiological generator of 12-lead ECGs. It can write a set of records in the layout of PTB-XL.

statements  the SCP-ECG statements that can occur
version     the version of the generator, and the description of a generated folder
conditions  patients with their conditions
fitted      numbers that are fitted to real signals
heart       the electrical sources of a heart
build       the normal heart and the chest of one patient
normality   limits of a normal ECG
disease     changes of the sources by each condition
conduction  changes of the order of activation
leadfield   from sources to eight independent leads
rhythm      the times of the beats
render      from the kernels of every beat to signals and wave masks
compose     one record of one patient
noise       noise on the nine electrodes
generate    a set of records as arrays
write       a set of records on disk
"""

from einthoven.data.synthetic.generate import Generated, generate
from einthoven.data.synthetic.version import GENERATOR_VERSION, check_set
from einthoven.data.synthetic.write import write_synthetic

__all__ = ["GENERATOR_VERSION", "Generated", "check_set", "generate", "write_synthetic"]
