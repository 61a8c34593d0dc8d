"""What `einthoven --help` and `einthoven VERB --help` print."""

from __future__ import annotations

HELP = """\
einthoven: 12-lead ECG classification, from records on disk to a tracked model

usage: einthoven VERB [OPTION=VALUE ...]

verbs
  train     train a classifier and write the run to MLflow
  evaluate  say what a finished run is worth:  einthoven evaluate run=FOLDER
  predict   answer for files:  einthoven predict [BUNDLE] FILE...
  explain   draw what an answer rests on:  einthoven explain [BUNDLE] FILE...
  app       the same on a page of this machine's browser:  einthoven app [BUNDLE]
  export    write a bundle as .pt2 or .onnx:  einthoven export BUNDLE FILE
  prepare   generate or read the records, pack and examine them, without training
  doctor    say what is wrong with records:  einthoven doctor FILE...
  sync      send to MLflow what a run could not:  einthoven sync FOLDER
  list      show the options of every part, or of one:  einthoven list optimizer
  ui        open the MLflow page on the training charts
  report    set runs side by side on one page of HTML:  einthoven report RUN RUN

examples
  einthoven train
  einthoven train optimizer=muon schedule=cosine trainer.epochs=20
  einthoven train data=ptbxl data.root=/data/ptb-xl task=superdiagnostic
  einthoven train -m optimizer=sgd,adamw,muon seed=0,1,2      a sweep: one parent run, nine children
  einthoven train folds=cv                                    cross-validation over the training folds
  einthoven train --cfg job                                   print the configuration, run nothing

Runs and bundles may name code that is not part of einthoven. It runs only with --trust MODULE, which every verb takes.
A tracking server that a run folder names takes --trust ADDRESS.

einthoven VERB --help tells more of one verb; einthoven --version prints the version.
"""

VERB_HELP = {
    "train": """\
usage: einthoven train [PART=OPTION ...] [PART.NAME=VALUE ...] [-m] [--cfg job]

Trains on data=…, evaluates, and writes the run to MLflow (mlflow.db in this folder) and to outputs/.

  PART=OPTION        another option of a part: einthoven list shows them all
  PART.NAME=VALUE    another value: einthoven train --cfg job shows every name with its value
  -m, --multirun     several values a name, separated by commas: one run for each combination
  resume=FOLDER      take up an interrupted run (outputs/…) where it stopped: with the same data, options and code
  experiment=NAME    a named recipe;  sweep=NAME  a named sweep;  folds=cv  cross-validation
  again=true         with several runs: run those too that the store has finished already
  --trust MODULE     with resume=FOLDER: run the code of this module, which the run names; again for each module
""",
    "evaluate": """\
usage: einthoven evaluate run=FOLDER [calibration=OPTION] [OPTION=VALUE ...]

Takes up the run of a folder (outputs/…) and says what it is worth on its test folds: AUROC with intervals by patient,
calibration before and after, operating points with their error on other records, subgroups, decision curves. Writes
evaluation.json into the folder, and metrics, figures and tables to the same MLflow run. The records have to be those of
the training; of those that were added since, the ones that are really new are evaluated, too.

  calibration=OPTION         temperature, vector, isotonic, prior_shift or none; fitted on fit=val, judged on
                             report=test
  against=FOLDER             compare with another run on the same records
  data.folds.val=[…] data.folds.test=[…]
                             other folds than those of the run; never one that it was trained on
  resamples=1000 level=0.95 interval=bca small=50
                             the bootstrap, and from how few patients on a subgroup is marked small
  --trust MODULE             run the code of this module, which the run names; again for each module
""",
    "predict": """\
usage: einthoven predict [BUNDLE ...] FILE ... [--json | --csv] [--pdf FILE] [OPTION VALUE ...]

Answers for records: calibrated probabilities with 95 % intervals, the statements that the record may have, and
cautions. FILE is a record in any format that can be read, a folder of them or a pattern such as 'records/*.hea'. One
that cannot be answered is told with its reason, the others are answered, and the exit code is 1.

BUNDLE is the folder of a bundle or of a run (outputs/...), runs:/ID or models:/NAME/VERSION; several are an ensemble.
Without any, a small model answers that was trained on generated ECGs. Nothing here is for diagnosis.

  --json, --csv      for machines; JSON has everything, CSV a row for each record
  --pdf FILE         a page of ECG paper for each record, too
  --timeline         long recordings: a row for each window;  --stride S  seconds between windows
  --alpha SHARE      of the true statements, the share that "may be" misses as a mean: 0.05, 0.1 or 0.2
  --no-doctor        without the doctor's cautions: faster, where thousands of files have been examined before
  --draws N          N dropout masks for each answer: how unsure the network itself is;  --seed N  of the masks
  --fs --units --leads
                     sampling frequency, unit and lead names of files that do not say so themselves (CSV, npy, mat)
  --trust MODULE     run the code of this module, which the bundle names; again for each module
""",
    "explain": """\
usage: einthoven explain [BUNDLE ...] FILE ... [--method NAME] [--class NAME] [--output FILE]

Draws what speaks for a class, and against it, as colour behind the ECG on paper, and says how far the drawing can be
trusted: whether the probability follows what it marks (deletion and insertion, beside a random order), and whether it
depends on what the network has learned (its rank correlation with the map of weights dealt anew).

FILE and BUNDLE are as for einthoven predict. Of a long record, the window with the highest probability is drawn. No
colour is a cause, and nothing here is for diagnosis.

  --method NAME      integrated_gradients by default; einthoven list explanation shows all
  --config-dir DIR   a folder of your own, with methods in its folder explanation/
  --class NAME       by default the most probable one of each record
  --output FILE      explanation.pdf by default, with a page for each record; .png and .svg take one record
  --fs --units --leads --trust
                     as for einthoven predict
""",
    "app": """\
usage: einthoven app [BUNDLE ...] [--port 8000] [--no-browser] [--max-size MB] [--timeout S]

Opens a page in the browser: drop the files of a record on it, see the ECG on paper, what the doctor finds, calibrated
probabilities and what they mean at thresholds. The page is served on 127.0.0.1, to this machine alone; nothing of a
record is kept or written to a log. BUNDLE as in einthoven predict. Nothing here is for diagnosis.

  --port N       another port than 8000;  0: one that is free
  --no-browser   print the address alone
  --max-size MB  of the files of a record (32)
  --timeout S    seconds for one record (30)
  --trust MODULE run the code of this module, which the bundle names; again for each module
""",
    "export": """\
usage: einthoven export [BUNDLE] FILE.pt2|FILE.onnx

Writes a bundle (by default the one that comes with the package) as one file for other runtimes: millivolts
(n, leads, samples) in, calibrated probabilities (n, classes) out. Every network can be a .pt2 file (torch.export);
.onnx takes einthoven[onnx], and a convolutional network or the default one.

  --trust MODULE   run the code of this module, which the bundle names; again for each module
""",
    "prepare": """\
usage: einthoven prepare [data=OPTION] [data.NAME=VALUE ...] [doctor=false] [strict=true]

Generates or reads the records of data=… and packs them into a store, as training does on first use. It asks every file
of a record whether it has changed, says what did, and compares what is packed with its checksums. Then the record
doctor examines them: a table of its findings, doctor.parquet and, where there are errors, quarantine.csv in the store.

  doctor=false   do not examine
  strict=true    exit code 1 where a record has an error or a warning
""",
    "doctor": """\
usage: einthoven doctor FILE ... [--json] [--strict] [--fs HZ] [--units UNIT] [--leads LEAD,LEAD,...]

Examines records and says what is wrong with them, with the numbers and limits that it rests on. FILE is a record in any
format that can be read, a folder of them (searched with its subfolders, tables apart) or a pattern such as
'records/*.csv'.

  --json     for machines: one JSON list, one object per record
  --strict   exit code 1 for any error or warning, not only for a file that cannot be read
  --fs --units --leads
             sampling frequency, unit and lead names of files that do not say so themselves (CSV, npy, mat)
""",
    "list": """\
usage: einthoven list [PART ...] [--plot]

Shows the options of every part of a run, or of the parts named (einthoven list models losses), one line each, with
the source. An option without figures on real records is marked experimental.

  --plot   with schedules: draw them, here and in schedules.png; with augmentations: one ECG under each, in
           augmentations.png
""",
    "sync": """\
usage: einthoven sync FOLDER ...

Sends what runs have left in their folders (outputs/…) to their tracking stores: what could not be sent because a store
did not answer, or the whole of a run with tracking.offline=true. Nothing is sent twice. Exit code 3 if something is
still not in the store.

  --trust ADDRESS   send to this store, if it is neither that of MLFLOW_TRACKING_URI nor a file with runs
""",
    "ui": """\
usage: einthoven ui [uri=sqlite:///mlflow.db] [port=5000]

Serves the MLflow page on 127.0.0.1, and prints the addresses of the newest experiment and run.
""",
    "report": """\
usage: einthoven report RUN ... [output=report.html] [uri=sqlite:///mlflow.db]

Writes one page of HTML that needs nothing else: which options differ, final metrics side by side with intervals, the
difference of each run to the first on the same records, curves over one another, and advice. One run alone: its page,
with its pictures.

RUN is the folder of a run (outputs/...), its id, runs:/ID or its name; a sweep, given alone, stands for its runs. At
most twelve are shown, the first and the best of the others.

  output=FILE   where the page goes
  uri=ADDRESS   another tracking store than that of the folder, of MLFLOW_TRACKING_URI or mlflow.db
  --trust ADDRESS
                the store that the folder names, if it is neither that of MLFLOW_TRACKING_URI nor a file with runs
""",
}
