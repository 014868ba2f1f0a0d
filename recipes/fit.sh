#!/bin/sh
# Train models that ship, by name: DATA=/path/to/data recipes/fit.sh ner-bilstm sentiment-bigru …
# $DATA holds the corpora and word vectors as docs/data.md lists them. One after another, on one thread each
# (OMP_NUM_THREADS=2 and a free second core are faster): NER takes about 3 minutes, sentiment 10 to 40.
set -eu
: "${DATA:?set DATA to the folder that holds the corpora}"
export DATA OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
PYTHON="${PYTHON:-.venv/bin/python}"
[ $# -gt 0 ] || { echo "fit.sh: name at least one model, such as ner-bilstm" >&2; exit 2; }

for model in $*; do
    way=''
    case "$model" in *-bi*) way=--bidirectional ;; esac
    case "$model" in
        *gru) cell=gru ;;
        *gru-before) cell='gru --gru-reset before' ;;
        *lstm) cell=lstm ;;
        *rnn) cell=rnn ;;
        *peephole) cell=peephole ;;
        *) echo "fit.sh: no recipe for $model" >&2; exit 2 ;;
    esac
    case "$model" in
        sentiment-*)
            # Sentences and long reviews. A random window of each review an epoch: five times faster than whole ones,
            # and another view of it each time. The default model gets five epochs; the others, first versions to compare
            # it with, three.
            case "$model" in *-bilstm) epochs=5 ;; *) epochs=3 ;; esac
            set -- --task sentiment --cell $cell $way --hidden 128 \
                --train "$DATA/sentiment/sst2/train_phrases.tsv.gz" --train "$DATA/sentiment/imdb/train.tsv.gz" \
                --dev "$DATA/sentiment/sst2/dev.tsv" --dev "$DATA/sentiment/imdb/dev.tsv.gz" \
                --test "$DATA/sentiment/uci-amazon/dev.tsv" --test "$DATA/sentiment/uci-yelp/dev.tsv" \
                --window 200 --epochs "$epochs" --batch-rows 64 --batch-tokens 6400 --dropout 0.4 --word-dropout 0.02 \
                --licence "weights CC BY-SA 4.0; the texts they learned from are licensed for research" ;;
        ner-*)
            set -- --task ner --cell $cell $way --hidden 128 \
                --train "$DATA/ner/uner-ewt/train.conll" \
                --dev "$DATA/ner/uner-ewt/dev.conll" --test "$DATA/ner/uner-ewt/test.conll" \
                --epochs 16 --patience 6 --learning-rate 0.002 --dropout 0.5 --word-dropout 0.05 \
                --licence "CC BY-SA 4.0, as the Universal NER English-EWT data" ;;
        *) echo "fit.sh: no recipe for $model" >&2; exit 2 ;;
    esac
    "$PYTHON" -m training fit "$@" --vectors "$DATA/vectors/glove.6B.100d.npz" --out "models/$model"
done
