#!/bin/sh
# Train models that ship, by name: DATA=/path/to/data recipes/fit.sh ner-bilstm sentiment-bigru …
# $DATA holds the corpora and word vectors as docs/data.md lists them. One after another, on one thread each
# (OMP_NUM_THREADS=2 and a free second core are faster): NER takes 5 to 30 minutes, sentiment 10 to 40.
# SEED=2 OUT=/tmp/seeds/2 in front trains it with another seed, elsewhere.
set -eu
: "${DATA:?set DATA to the folder that holds the corpora}"
export DATA OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
PYTHON="${PYTHON:-.venv/bin/python}"
[ $# -gt 0 ] || { echo "fit.sh: name at least one model, such as ner-bilstm" >&2; exit 2; }
# Of the corpora that ner-bilstm learns from.
corpora="CC BY-SA 4.0, as the Universal NER English-EWT and Few-NERD data; further data: Broad Twitter Corpus and WNUT-17 (CC BY 4.0), CrossNER (MIT), Tweebank (Apache 2.0, Twitter's terms), Worldwide newswire (no licence stated)"
reuters="research only: the text is Reuters RCV1, licensed for research; no permissive licence covers this model"

for model in $*; do
    way='' begin=--vectors from="$DATA/vectors/glove.6B.100d.npz"
    case "$model" in *-bi*) way=--bidirectional ;; esac
    case "$model" in *-window) way="$way --window-words 3" ;; esac
    case "${model%-window}" in
        *mingru) cell=mingru ;;
        *minlstm) cell=minlstm ;;
        *gru) cell=gru ;;
        *gru-before) cell='gru --gru-reset before' ;;
        *lstm*) cell=lstm ;;
        *rnn) cell=rnn ;;
        *peephole-full) cell='peephole --peepholes full' ;;
        *peephole) cell=peephole ;;
        *) echo "fit.sh: no recipe for $model" >&2; exit 2 ;;
    esac
    case "$model" in
        sentiment-bilstm-tweets)
            # First `python -m training distil draw --neutral` of recipes/tweets.toml, see docs/data.md.
            from="$DATA/vectors/both.152d.npz"
            set -- --task sentiment --cell lstm --bidirectional --hidden 128 --pooling attention \
                --train "$DATA/sentiment/tweets-drawn/train.tsv.gz" --dev "$DATA/sentiment/tweets/dev.tsv" \
                --dev "$DATA/sentiment/airline-tweets/dev.tsv" --test "$DATA/sentiment/vader-tweets/dev.tsv" \
                --words 28000 --word-bits 8 --epochs 4 --patience 100 --batch-rows 64 --batch-tokens 6400 \
                --dropout 0.5 --embedding-dropout 0.4 --word-dropout 0.05 --average 0.998 --precision mixed \
                --licence "weights CC BY-SA 4.0; the texts they learned from are licensed for research, airline tweets for non-commercial use; tweets under Twitter's terms" ;;
        sentiment-bilstm)
            # First the teacher, its answers and the mixture: see docs/data.md. The figures of further domains are measured
            # at the end.
            S="$DATA/sentiment" from="$DATA/vectors/both.152d.npz" further=''
            for domain in airline-reviews alexa amazon-apparel amazon-baby amazon-books amazon-camera-photo amazon-dvd \
                amazon-electronics amazon-health-personal-care amazon-kitchen amazon-magazines amazon-music \
                amazon-software amazon-sports-outdoors amazon-toys-games amazon-video clothing drugs hotels-opener mpqa \
                restaurants-zomato sts-gold; do further="$further --test $S/$domain/dev.tsv"; done
            set -- --task sentiment --cell lstm --bidirectional --hidden 128 --pooling attention --tokenizer reviews \
                --train "$S/student/train.tsv.gz" --train "$S/negation/train.tsv.gz" \
                --soft "$S/transfer.jsonl.gz" --soft-share 0.5 --temperature 2 \
                --dev "$S/sst2/dev.tsv" --dev "$S/imdb/dev.tsv.gz" --dev "$S/uci-amazon/dev.tsv" \
                --dev "$S/uci-yelp/dev.tsv" --dev "$S/pros-cons/dev.tsv" --dev "$S/apps/dev.tsv" \
                --dev "$S/hotels/dev.tsv" $further \
                --words 28000 --word-bits 8 --window 200 --epochs 4 --patience 100 --batch-rows 128 \
                --batch-tokens 9600 --learning-rate 0.0015 --dropout 0.4 --embedding-dropout 0.3 --word-dropout 0.02 \
                --average 0.999 --precision mixed \
                --licence "weights CC BY-SA 4.0; the texts they learned from are licensed for research or state no licence; nothing marked non-commercial" ;;
        sentiment-bilstm-pretrained)
            # The encoder first learns to read the texts of the training data, without their labels: about an hour.
            begin=--start from="$DATA/encoders/sentiment-bilstm.safetensors"
            [ -e "$from" ] || "$PYTHON" -m training pretrain --cell lstm --bidirectional --hidden 128 \
                --texts "$DATA/sentiment/imdb/train.tsv.gz" --texts "$DATA/sentiment/sst2/train.tsv" \
                --dev "$DATA/sentiment/sst2/dev.tsv" --dev "$DATA/sentiment/imdb/dev.tsv.gz" --epochs 3 \
                --vectors "$DATA/vectors/glove.6B.100d.npz" --out "$from"
            set -- --task sentiment --cell lstm --bidirectional --hidden 128 \
                --train "$DATA/sentiment/sst2/train_phrases.tsv.gz" --train "$DATA/sentiment/sst2/train.tsv" \
                --train "$DATA/sentiment/imdb/train.tsv.gz" \
                --dev "$DATA/sentiment/sst2/dev.tsv" --dev "$DATA/sentiment/imdb/dev.tsv.gz" \
                --test "$DATA/sentiment/uci-amazon/dev.tsv" --test "$DATA/sentiment/uci-yelp/dev.tsv" \
                --window 240 --word-bits 8 --precision mixed --epochs 4 --patience 100 --batch-rows 64 \
                --batch-tokens 6400 --dropout 0.4 --embedding-dropout 0.3 --word-dropout 0.02 --warm-up 0.05 \
                --average 0.998 \
                --licence "weights CC BY-SA 4.0; the texts they learned from are licensed for research" ;;
        sentiment-rnn)
            # The Elman network sees short windows: its gradients do not reach further.
            set -- --task sentiment --cell rnn --hidden 128 --pooling mean \
                --train "$DATA/sentiment/sst2/train_phrases.tsv.gz" --train "$DATA/sentiment/imdb/train.tsv.gz" \
                --dev "$DATA/sentiment/sst2/dev.tsv" --dev "$DATA/sentiment/imdb/dev.tsv.gz" \
                --test "$DATA/sentiment/uci-amazon/dev.tsv" --test "$DATA/sentiment/uci-yelp/dev.tsv" \
                --words 28000 --word-bits 8 --window 100 --epochs 2 --batch-rows 64 --batch-tokens 6400 \
                --dropout 0.3 --word-dropout 0.02 \
                --licence "weights CC BY-SA 4.0; the texts they learned from are licensed for research" ;;
        ner-bilstm-conll2003)
            # First the taggers that label news, and their labels: see docs/data.md.
            from="$DATA/vectors/glove-more.100d.npz"
            set -- --task ner --cell lstm --bidirectional --hidden 200 --characters cnn --crf \
                --train "$DATA/ner/conll2003/train.conll" --train "$DATA/ner/conll2003/train.conll" \
                --train "$DATA/ner/labelled/news.jsonl.gz" --dev "$DATA/ner/conll2003/dev.conll" \
                --words 110000 --word-bits 4 --epochs 9 --patience 100 --average 0.998 --learning-rate 0.0015 \
                --dropout 0.4 --word-dropout 0.01 --batch-rows 24 --precision mixed \
                --licence "research only: the text is Reuters RCV1, licensed for research; text that taggers labelled: Worldwide newswire (no licence stated), Few-NERD's Wikipedia (CC BY-SA 4.0), MASC (free for research and development), the Brown corpus (non-commercial); no permissive licence covers this model" ;;
        ner-bilstm-conll2003-glove | ner-bilstm-conll2003-both)
            # Do not ship: 37 and 54 MB. Together they label the news that ner-bilstm-conll2003 learns from. SEED=2 glove.
            case "$model" in
                *-both) from="$DATA/vectors/both.152d.npz" further='--epochs 11 --dropout 0.5' ;;
                *) from="$DATA/vectors/glove-more.100d.npz" further='--epochs 10 --dropout 0.4' ;;
            esac
            set -- --task ner --cell lstm --bidirectional --hidden 256 --characters cnn --crf $further \
                --train "$DATA/ner/conll2003/train.conll" --dev "$DATA/ner/conll2003/dev.conll" \
                --words 160000 --word-bits 16 --patience 100 --average 0.997 --learning-rate 0.0015 \
                --word-dropout 0.01 --batch-rows 16 --precision mixed --licence "$reuters" ;;
        sentiment-bilstm-max)
            # Does not ship: what the maximum over the states gave in place of attention.
            set -- --task sentiment --cell lstm --bidirectional --hidden 128 --pooling max \
                --train "$DATA/sentiment/sst2/train_phrases.tsv.gz" --train "$DATA/sentiment/imdb/train.tsv.gz" \
                --dev "$DATA/sentiment/sst2/dev.tsv" --dev "$DATA/sentiment/imdb/dev.tsv.gz" \
                --test "$DATA/sentiment/uci-amazon/dev.tsv" --test "$DATA/sentiment/uci-yelp/dev.tsv" \
                --window 200 --epochs 5 --batch-rows 64 --batch-tokens 6400 --dropout 0.4 --word-dropout 0.02 \
                --licence "weights CC BY-SA 4.0; the texts they learned from are licensed for research" ;;
        sentiment-*)
            # Attention over the states: better on sentences than their maximum, and as good on reviews. A random window of
            # each review an epoch: five times faster than whole ones, and another view of it each time.
            set -- --task sentiment --cell $cell $way --hidden 128 --pooling attention \
                --train "$DATA/sentiment/sst2/train_phrases.tsv.gz" --train "$DATA/sentiment/sst2/train.tsv" \
                --train "$DATA/sentiment/imdb/train.tsv.gz" \
                --dev "$DATA/sentiment/sst2/dev.tsv" --dev "$DATA/sentiment/imdb/dev.tsv.gz" \
                --test "$DATA/sentiment/uci-amazon/dev.tsv" --test "$DATA/sentiment/uci-yelp/dev.tsv" \
                --window 200 --epochs 4 --patience 100 --batch-rows 64 --batch-tokens 6400 --dropout 0.4 \
                --word-dropout 0.02 --average 0.998 \
                --licence "weights CC BY-SA 4.0; the texts they learned from are licensed for research" ;;
        ner-bilstm-wnut17)
            # Does not ship. People and places of tweets and the web treebank beside its own few sentences: `web_names`.
            set -- --task ner --cell lstm --bidirectional --hidden 160 --characters lstm --crf \
                --train "$DATA/ner/wnut17/train.conll" --train "$DATA/ner/emerging/train.conll" \
                --dev "$DATA/ner/wnut17/dev.conll" --test "$DATA/ner/wnut17/test.conll" \
                --words 64400 --word-bits 4 --epochs 12 --patience 100 --average 0.995 --learning-rate 0.002 \
                --dropout 0.5 --word-dropout 0.1 --batch-rows 16 --licence "CC BY 4.0" ;;
        ner-bilstm-gold)
            # Does not ship: with ner-bilstm-300 it labels the texts that ner-bilstm learns from.
            # First `python -m recipes.names $DATA/ner` and `python -m recipes.vectors $DATA/vectors`.
            names="$DATA/ner/names" from="$DATA/vectors/glove-more.100d.npz"
            set -- --task ner --cell lstm --bidirectional --hidden 180 --characters cnn --crf \
                --train "$names/uner-ewt/train.conll" --train "$names/worldwide-news/train.conll" \
                --train "$names/fewnerd-wiki/train.conll" --train "$names/crossner/train.conll" \
                --train "$names/btc/train.conll" --train "$names/wnut17/train.conll" \
                --train "$names/tweebank/train.conll" \
                --dev "$DATA/ner/uner-ewt/dev.conll" --dev "$names/worldwide-news/dev.conll" \
                --dev "$names/fewnerd-wiki/dev.conll" --dev "$names/tweebank/dev.conll" \
                --test "$DATA/ner/uner-ewt/test.conll" --test "$names/wikineural/dev.conll" \
                --words 64400 --word-bits 4 --epochs 8 --patience 100 --average 0.998 --learning-rate 0.002 \
                --dropout 0.4 --word-dropout 0.05 --batch-rows 48 --precision mixed \
                --licence "$corpora" ;;
        ner-bilstm-300)
            # Does not ship: 54 MB. See ner-bilstm-gold.
            names="$DATA/ner/names" from="$DATA/vectors/both.152d.npz"
            set -- --task ner --cell lstm --bidirectional --hidden 300 --characters cnn --crf \
                --train "$names/uner-ewt/train.conll" --train "$names/worldwide-news/train.conll" \
                --train "$names/fewnerd-wiki/train.conll" --train "$names/crossner/train.conll" \
                --train "$names/btc/train.conll" --train "$names/wnut17/train.conll" \
                --train "$names/tweebank/train.conll" \
                --dev "$DATA/ner/uner-ewt/dev.conll" --dev "$names/worldwide-news/dev.conll" \
                --dev "$names/fewnerd-wiki/dev.conll" --dev "$names/tweebank/dev.conll" \
                --test "$names/wikineural/dev.conll" \
                --words 160000 --word-bits 16 --epochs 6 --patience 100 --average 0.998 --learning-rate 0.002 \
                --dropout 0.5 --word-dropout 0.05 --batch-rows 48 --precision mixed --licence "$corpora" ;;
        ner-bilstm)
            # First `python -m training distil tag` of recipes/names.toml, see docs/how-to/train.md.
            names="$DATA/ner/names" from="$DATA/vectors/glove-more.100d.npz"
            set -- --task ner --cell lstm --bidirectional --hidden 180 --characters cnn --crf \
                --train "$names/uner-ewt/train.conll" --train "$names/worldwide-news/train.conll" \
                --train "$names/fewnerd-wiki/train.conll" --train "$names/crossner/train.conll" \
                --train "$names/btc/train.conll" --train "$names/wnut17/train.conll" \
                --train "$names/tweebank/train.conll" --train "$DATA/ner/labelled/train.jsonl.gz" \
                --dev "$DATA/ner/uner-ewt/dev.conll" --dev "$names/worldwide-news/dev.conll" \
                --dev "$names/fewnerd-wiki/dev.conll" --dev "$names/tweebank/dev.conll" \
                --test "$DATA/ner/uner-ewt/test.conll" --test "$names/wikineural/dev.conll" \
                --words 61000 --word-bits 4 --epochs 5 --patience 100 --average 0.998 --learning-rate 0.002 \
                --dropout 0.3 --word-dropout 0.05 --batch-rows 48 --precision mixed \
                --licence "$corpora; text that taggers labelled: Worldwide newswire, Few-NERD's Wikipedia, MASC (free for research and development), tweets (Twitter's terms), Reddit and hotel reviews (no licence stated)" ;;
        ner-*)
            # First `python -m recipes.web_names $DATA/ner`: tweets and forums beside the web treebank.
            set -- --task ner --cell $cell $way --hidden 128 --characters cnn --crf \
                --train "$DATA/ner/uner-ewt/train.conll" --train "$DATA/ner/web/train.conll" \
                --dev "$DATA/ner/uner-ewt/dev.conll" --test "$DATA/ner/uner-ewt/test.conll" \
                --words 64400 --word-bits 4 --epochs 8 --patience 100 --average 0.995 --learning-rate 0.002 \
                --dropout 0.5 --word-dropout 0.05 --batch-rows 32 \
                --licence "CC BY-SA 4.0, as the Universal NER English-EWT data; further data: Broad Twitter Corpus and WNUT-17, CC BY 4.0" ;;
        *) echo "fit.sh: no recipe for $model" >&2; exit 2 ;;
    esac
    # No row of a dev or test file may be among the training data.
    "$PYTHON" -m recipes.overlap "$DATA" "$@"
    "$PYTHON" -m training fit "$@" "$begin" "$from" --seed "${SEED:-1}" --out "${OUT:-models}/$model"
done
