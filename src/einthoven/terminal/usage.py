"""The texts of `einthoven --help` and `einthoven VERB --help`."""

from __future__ import annotations

HELP = """\
einthoven: 12-lead ECG classification, from records on disk to a tracked model

usage: einthoven COMMAND [OPTION=VALUE ...]

read ECG files (a model of real ECGs comes with the package)
  predict   print probabilities, intervals and heart rate of records
  explain   draw which parts of an ECG a prediction rests on
  app       open a local web page that shows records and predictions
  doctor    print what is wrong with records, or with the labels of a run
  embed     write the features of records to a table

train a model
  train     train a classifier and log the run to MLflow
  evaluate  measure a finished run on its test records
  report    write one page of HTML that compares runs
  ui        open the MLflow page with the curves of the runs
  list      show the options of all parts, such as optimizers and models
  prepare   generate or read records, pack and examine them, without training
  probe     measure what the features of a run contain
  export    write a model as .pt2 or .onnx for other programs
  sync      send to MLflow what a run could not send

examples
  einthoven predict my.csv
  einthoven train
  einthoven train optimizer=muon schedule=cosine trainer.epochs=20
  einthoven train data=ptbxl data.root=/data/ptb-xl task=superdiagnostic
  einthoven train -m optimizer=sgd,adamw,muon seed=0,1,2

The last one is a sweep: nine runs, and one that compares them.

einthoven COMMAND --help explains one command. einthoven --version prints the
version.

Options and files may stand in any order. A path may contain any character; put
it in quotes for the shell. A run or a model from somebody else may name code
that is not part of einthoven, or a tracking server. They are used only with
--trust MODULE or --trust ADDRESS, which every command takes.
"""

VERB_HELP = {
    "train": """\
usage: einthoven train [PART=OPTION ...] [PART.NAME=VALUE ...] [-m] [--cfg job]

Trains a classifier, measures it on test records, and logs the run to MLflow
(mlflow.db in this folder). The configuration, the checkpoints and the model are
in outputs/. Without options, the records are 2,000 generated ECGs, and the
model is the default network.

A run is made of parts: data, task, model, loss, optimizer, schedule, augment,
trainer and others. Each part has options, and each option has values:

  PART=OPTION      choose another option of a part; einthoven list shows all
                   parts with their options
  PART.NAME=VALUE  change a value; einthoven list PART OPTION shows the names,
                   and einthoven train --cfg job those of the whole run
  -m, --multirun   take several values for a name, separated by commas, and
                   train one run for each combination
  resume=FOLDER    continue an interrupted run (outputs/…); its data, options
                   and code must be unchanged
  experiment=NAME  use a named recipe; einthoven list experiment shows them
  sweep=NAME       run a named sweep; einthoven list sweep shows them
  folds=cv         cross-validate over the training folds
  again=true       in a sweep: also train runs that the tracking store has as
                   finished
  --cfg job        print the configuration, and train nothing
  --trust MODULE   with resume=FOLDER: run the code of this module, which the
                   run names; repeat for each module

examples
  einthoven train model=resnet1d_wang trainer.epochs=10
  einthoven train data=folder data.root=/data/mine task=columns
  einthoven train -m optimizer=sgd,adamw seed=0,1,2
""",
    "evaluate": """\
usage: einthoven evaluate run=FOLDER [calibration=OPTION] [OPTION=VALUE ...]

Evaluates the finished run of a folder (outputs/…) on its test folds: AUROC with
intervals over patients, calibration before and after, operating points with
their error on other records, subgroups and decision curves. Writes
evaluation.json into the folder, and adds metrics, figures and tables to the
MLflow run. The records must be those of the training. Of records that were
added since, those that the model has not seen are evaluated as well.

  calibration=OPTION  temperature, vector, isotonic, prior_shift or none; fitted
                      on the split fit=val, and measured on the split
                      report=test
  against=FOLDER      compare with another run on the same records
  data.folds.val=[…] data.folds.test=[…]
                      use other folds than the run; a fold of the training is
                      refused
  resamples=1000 level=0.95 interval=percentile
                      number of bootstrap samples, level and kind of the
                      intervals
  small=50            mark a subgroup with fewer patients as small
  --trust MODULE      run the code of this module, which the run names; repeat
                      for each module
""",
    "predict": """\
usage: einthoven predict [BUNDLE ...] FILE ... [--json | --csv] [--pdf FILE]
           [OPTION VALUE ...]

Prints for each ECG: calibrated probabilities with 95 % intervals, a set of
labels that the record may have ("may apply"), measurements (heart rate, PR,
QRS, QT, axis), and cautions. Of rhythms and statements, it prints those above
their threshold of the best F1, and those of the set with a probability of 0.2
or more, and counts the others. JSON and CSV have all of them, and also the
variability of RR, all axes and the ST levels.

FILE is a record in any supported format, a folder of records, or a pattern such
as 'records/*.hea'. A record without a prediction is listed with the reason. The
exit code is then 1.

BUNDLE is the folder of a bundle or of a run (outputs/...), runs:/ID or
models:/NAME/VERSION, or a bundle of the package: ptbxl (trained on real ECGs)
or synthetic (trained on generated ECGs). Without it, ptbxl predicts. It refuses
a record that is unlike its training records. Several bundles form an ensemble.
Nothing here is for diagnosis.

  --json, --csv      write JSON with all results, or CSV with one row per record
  --pdf FILE         also draw a page of ECG paper for each record
  --timeline         for long recordings: print a row for each window
  --stride S         seconds from the start of one window to the start of the
                     next
  --alpha SHARE      share of the true labels that "may apply" misses, as a mean
                     over records: 0.05, 0.1 or 0.2
  --without LEAD     answer for records that lack this chest lead, which is
                     computed from the others
  --no-doctor        leave out the cautions and refusals of the record doctor;
                     this is faster for many files
  --no-measurements  measure nothing
  --draws N          use N dropout masks per record to measure how uncertain the
                     network is
  --seed N           seed of the dropout masks
  --fs HZ --units UNIT --leads LEAD,LEAD,...
                     sampling frequency, unit and lead names for files that do
                     not state them (CSV, npy, mat), such as --fs 500 --units mV
                     --leads I,II,III,aVR,aVL,aVF,V1,V2,V3,V4,V5,V6
  --trust MODULE     run the code of this module, which the bundle names; repeat
                     for each module

examples
  einthoven predict my.csv
  einthoven predict records/ --csv
  einthoven predict outputs/2026-12-01/09-30-00-synthetic-conv_attention my.csv
""",
    "explain": """\
usage: einthoven explain [BUNDLE ...] FILE ... [--method NAME] [--class NAME]
           [--output FILE]

Draws which parts of the ECG speak for a class and which speak against it, as
colours behind the ECG. Tests the drawing in two ways: whether the probability
changes when the marked parts are removed or added (deletion and insertion,
compared with a random order), and whether the drawing depends on what the
network has learned (rank correlation with the drawing for random weights).

FILE and BUNDLE are as in einthoven predict. Of a long record, the window with
the highest probability is drawn. A colour does not show a cause, and nothing
here is for diagnosis.

  --method NAME     integrated_gradients by default; einthoven list explanation
                    shows all methods
  --config-dir DIR  a folder with your own methods in its folder explanation/
  --class NAME      by default the most probable class of each record
  --output FILE     explanation.pdf by default, with a page for each record;
                    .png and .svg take one record
  --fs --units --leads --trust
                    as in einthoven predict
""",
    "embed": """\
usage: einthoven embed [MODEL] FILE ... --output FILE.parquet
           [--windows | --tokens] [--stride S]

Writes the embeddings of records: what the last stage of a network, its head,
reads. A file goes the same way as in einthoven predict. The table has a row for
each record, with the columns file, windows, e0, e1, and so on. A record without
an embedding is listed with the reason. The exit code is then 1.

MODEL is the folder of a bundle or of a run (outputs/...), also of a
pretraining; runs:/ID or models:/NAME/VERSION. Without it, the model of real
ECGs in the package (ptbxl) is used. FILE is as in einthoven predict.

  --output FILE  .parquet (its metadata name the model), .csv or .npz
  --windows      a row for each window of a long record; without this option,
                 the mean over its windows
  --tokens       a row for each time step of the network, with its start in
                 seconds
  --stride S     seconds from the start of one window of a long record to the
                 start of the next
  --fs --units --leads --trust
                 as in einthoven predict
""",
    "probe": """\
usage: einthoven probe run=FOLDER [data=OPTION] [data.NAME=VALUE ...]
           [task=OPTION] [OPTION=VALUE ...]

Measures how much of the labels of a task the embeddings of a run contain. The
encoder is frozen. A linear probe and nearest neighbours are fitted on the
training folds and judged on report=val. The table shows their macro AUROC with
intervals over patients, that of random encoders of the same architecture, and
the paired difference. The results are in probe.json in the folder and in the
MLflow run. A record that the encoder was trained on is not judged: the folds
are then refused. The run can also be a pretraining, or a run on other records.

  data=OPTION     the records, as in einthoven train: synthetic by default; they
                  need the leads and the sampling frequency of the run
  task=OPTION     the labels: superdiagnostic by default
  report=val      the split that is judged: val, or test
  data.folds.train=[…] data.folds.val=[…]
                  other folds than the official ones
  neighbours=20 random=3
                  number of neighbours, and of random encoders
  seed=0 resamples=1000 level=0.95
                  seed; number of bootstrap samples, and level of the intervals
  device=auto     cuda, mps or cpu
  --trust MODULE  run the code of this module, which the run names; repeat for
                  each module
""",
    "app": """\
usage: einthoven app [BUNDLE ...] [--port 8000] [--no-browser] [--max-size MB]
           [--timeout S]

Opens a page in the browser. Drop the files of a record on it to see the ECG on
paper, the findings of the record doctor, calibrated probabilities, and
decisions at thresholds. The page is served on 127.0.0.1, to this machine only.
No record is kept or written to a log. BUNDLE is as in einthoven predict.
Nothing here is for diagnosis.

  --port N       another port than 8000; 0 takes a free port
  --no-browser   print the address only
  --max-size MB  largest size of the files of a record (32)
  --timeout S    seconds for one record (30)
  --trust MODULE
                 run the code of this module, which the bundle names; repeat for
                 each module
""",
    "export": """\
usage: einthoven export [BUNDLE] FILE.pt2|FILE.onnx [--network]

Writes a bundle as one file for other runtimes. The file takes millivolts (n,
leads, samples) and gives calibrated probabilities (n, classes). Every network
can be written as .pt2 (torch.export). For .onnx, install einthoven[onnx]; the
network must be convolutional or the default. A bundle that answers with the
mean of a network and gradient boosting, such as that of real ECGs in the
package (ptbxl, the one without BUNDLE), is refused without --network.

  --network       write only the network of such a bundle, without a calibration
  --trust MODULE  run the code of this module, which the bundle names; repeat
                  for each module
""",
    "prepare": """\
usage: einthoven prepare [data=OPTION] [data.NAME=VALUE ...] [doctor=false]
           [strict=true]

Generates or reads the records of data=… and packs them into a store, as
training does on first use. Checks whether a file of a record has changed, and
compares the packed records with their checksums. Then the record doctor
examines the records: it prints a table of findings, and writes doctor.parquet
and, if there are errors, quarantine.csv into the store.

  doctor=false  do not examine the records
  strict=true   end with exit code 1 if a record has an error or a warning
""",
    "doctor": """\
usage: einthoven doctor FILE ... [--json] [--strict] [--fs HZ] [--units UNIT]
           [--leads LEAD,LEAD,...]

Examines records and prints what is wrong with them, with the measured values
and their limits. FILE is a record in any supported format, a folder of records
(with its subfolders, without tables), or a pattern such as 'records/*.csv'.

  --json    print one JSON list with one object per record
  --strict  end with exit code 1 for any error or warning, and not only for a
            file that cannot be read
  --fs HZ --units UNIT --leads LEAD,LEAD,...
            sampling frequency, unit and lead names for files that do not state
            them (CSV, npy, mat), such as --fs 500 --units mV --leads
            I,II,III,aVR,aVL,aVF,V1,V2,V3,V4,V5,V6

       einthoven doctor labels RUN [most=20]

Ranks the records whose label is probably wrong. RUN is the folder of a
cross-validation (einthoven train folds=cv), or its id if the folder is below
outputs/. Each record is judged by the model that was not trained on it. Prints
the first records, and writes label_doctor.csv with all labels and
label_doctor.html with the ECGs of the first ones into the folder. The records
must be those of the training. A record that is called labels is ./labels.

  most=20         number of records that are printed and drawn
  --trust MODULE  run the code of this module, which the run names; repeat for
                  each module
""",
    "list": """\
usage: einthoven list [PART [OPTION ...] ...] [--plot]

Shows the options of all parts of a run, or of some parts (einthoven list models
losses): one line each. With OPTION, shows the source and the values of this
option (einthoven list model s4d).

  --plot  for schedules: draw the curves here and in schedules.png; for
          augmentations: draw one ECG under each in augmentations.png
""",
    "sync": """\
usage: einthoven sync FOLDER ...

Sends runs to MLflow that are not there completely: the rest of a run whose
tracking store did not answer, or a whole run with tracking.offline=true. FOLDER
is the folder of a run (outputs/…). Nothing is sent twice. The exit code is 3 if
something is still not in the store.

  --trust ADDRESS  send to this store, if it is neither that of
                   MLFLOW_TRACKING_URI nor a file with runs
""",
    "ui": """\
usage: einthoven ui [uri=sqlite:///mlflow.db] [port=5000] [browser=true]

Serves the MLflow page on 127.0.0.1. When it answers, its addresses are printed,
and a browser opens the list of the newest runs, if there is one.

  uri=ADDRESS    another database than that of MLFLOW_TRACKING_URI or mlflow.db
  port=NUMBER    another port of the page
  browser=false  open no browser
""",
    "report": """\
usage: einthoven report RUN ... [--significance] [output=report.html]
           [uri=sqlite:///mlflow.db]

Writes one page of HTML that needs no other file. It shows which options differ,
the final metrics with intervals, the difference of each run to the first run on
the same records, the curves, and advice. A page about one run also shows its
pictures.

RUN is the folder of a run (outputs/...), its id or the first characters of it,
runs:/ID, or a name that no other run has. A sweep, if it is the only RUN,
stands for its runs. The page shows at most twelve runs: the first run and the
best of the others.

  --significance   test many models on many tasks instead: runs that differ only
                   in their seed are one model, and each model is compared with
                   the first one of the same task and records. The tests are a
                   bootstrap over the patients and the corrected resampled
                   t-test over folds or seeds, corrected for all comparisons
  output=FILE      the file of the page
  uri=ADDRESS      another tracking store than that of the folder, of
                   MLFLOW_TRACKING_URI or mlflow.db
  --trust ADDRESS  use the store that the folder names, if it is neither that of
                   MLFLOW_TRACKING_URI nor a file with runs
""",
}
