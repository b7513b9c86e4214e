#!/usr/bin/env bash
# Deploys Dataset Relay to Cloud Run functions: from an empty project to a working function, and again after a change.
# Whatever is there already stays as it is. `deploy.sh --help` says more. Runs under bash 3.2 (macOS) and newer.
set -euo pipefail
# A trace would show what is typed, and gcloud's log of its requests what is sent.
set +x
export CLOUDSDK_CORE_LOG_HTTP=false
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

usage() {
    cat <<'TEXT'
deploy/gcp/deploy.sh [options] [-- flags for `gcloud run deploy`]

  --project ID        the project; default: the one that gcloud is set to
  --region REGION     default: europe-west1
  --service NAME      the service, and what its two accounts are named after; default: dataset-relay
  --concurrency N     requests at once per instance, and as many threads; default: 200, or what the service has
  --set NAME=VALUE    a setting (deploy/README.md: Settings), as often as needed; what isn't named stays
  --code-only         brings the code, and changes nothing else: for a project that Terraform has set up
  --dry-run           prints the commands for an empty project; Google is not called
  --help

The values of secrets are asked for, or taken from variables: VALUE_ and the secret's name in capitals, as
VALUE_APIFY_TOKEN for apify-token. They are never shown, and never an argument of a command.
TEXT
}

PROJECT='' REGION=europe-west1 SERVICE=dataset-relay CONCURRENCY='' CODE_ONLY=false DRY_RUN=false
SETTINGS=() EXTRA=()
while [ $# -gt 0 ]; do
    case $1 in
        --project | --region | --service | --concurrency | --set)
            case ${2:-} in
                '' | --*) echo "$1 needs a value." >&2; exit 2 ;;
            esac ;;
    esac
    case $1 in
        --project) PROJECT=$2; shift ;;
        --region) REGION=$2; shift ;;
        --service) SERVICE=$2; shift ;;
        --concurrency) CONCURRENCY=$2; shift ;;
        --set) SETTINGS+=("$2"); shift ;;
        --code-only) CODE_ONLY=true ;;
        --dry-run) DRY_RUN=true ;;
        --help | -h) usage; exit 0 ;;
        --) shift; EXTRA=("$@"); break ;;
        *) echo "Unknown option: $1" >&2; usage >&2; exit 2 ;;
    esac
    shift
done

# Values of secrets are for this shell alone, not for what it calls.
for variable in $(compgen -e VALUE_ || true); do
    export -n "${variable?}"
done

ERRORS=$(mktemp)
TERMINAL=$(stty -g 2>/dev/null) || TERMINAL=''
trap 'rm -f "$ERRORS"; [ -z "$TERMINAL" ] || stty "$TERMINAL"' EXIT

die() {
    printf '\ndeploy.sh: %s\n' "$1" >&2
    exit 1
}

for setting in ${SETTINGS[@]+"${SETTINGS[@]}"}; do
    case $setting in
        # THREADS is --concurrency; Cloud Run refuses the others, which are its own.
        THREADS=* | PORT=* | K_*=*) die "--set ${setting%%=*}: that isn't yours to set; for THREADS there is --concurrency." ;;
        [A-Z]*=*) ;;
        *) die "--set needs NAME=VALUE." ;;
    esac
    case $setting in
        # It is what separates them when they are handed over.
        *'##'* | *'#') die "--set ${setting%%=*}: a value can't hold ##, nor end in #." ;;
    esac
done
case $CONCURRENCY in
    *[!0-9]* | 0*) die "--concurrency must be a number from 1 to 1000." ;;
esac
[ -z "$CONCURRENCY" ] || [ "$CONCURRENCY" -le 1000 ] || die "--concurrency must be a number from 1 to 1000."

# Google's own limits for accounts, of which there is NAME-build, too: 6 to 30 characters.
[[ $SERVICE =~ ^[a-z][a-z0-9-]{4,22}[a-z0-9]$ ]] ||
    die "--service must be 6 to 24 small letters, digits and hyphens, with a letter first and no hyphen last."

step() { printf '== %s\n' "$1"; }

shown() {
    local word line='+'
    for word in "$@"; do
        case $word in
            *[!A-Za-z0-9_./:=,@%+-]* | '') line="$line '$(printf '%s' "$word" | sed "s/'/'\\\\''/g")'" ;;
            *) line="$line $word" ;;
        esac
    done
    printf '%s\n' "$line"
}

# What went wrong, in words that say what to do. $1: the role that the step needs, and on what. $2: `said`, if what
# gcloud said was shown already.
explain() {
    [ "${2:-}" = said ] || sed 's/^/    /' "$ERRORS" >&2
    if grep -qiE 'not currently have an active account|reauthentication|invalid_grant' "$ERRORS"; then
        die "gcloud is not logged in: run  gcloud auth login"
    elif grep -qiE 'billing (account|must be enabled|is disabled)|BILLING_DISABLED' "$ERRORS"; then
        die "The project $PROJECT has no billing account: $BILLING_PAGE"
    elif grep -qiE 'permission|forbidden|403' "$ERRORS"; then
        die "Your account may not do this (or there is no such project). Ask who owns the project for: $1"
    fi
    die "The step failed: what gcloud says is above. To go on from here, run this again."
}

# An account is known everywhere only some seconds after it was made.
NOT_YET='[Ss]ervice account .* does not exist|concurrent policy changes'

# call ROLE COMMAND…: a step that changes something.
call() {
    local role=$1 tries=0
    shift
    if $DRY_RUN; then shown "$@"; return; fi
    until "$@" >/dev/null 2>"$ERRORS"; do
        tries=$((tries + 1))
        if [ $tries -gt 6 ] || ! grep -qE "$NOT_YET" "$ERRORS"; then explain "$role"; fi
        sleep "${DEPLOY_PAUSE:-5}"
    done
}

# look ROLE COMMAND…: what is there, on stdout; nothing, where there is nothing.
look() {
    local role=$1
    shift
    # On stderr, since what it says is what is there: nothing.
    if $DRY_RUN; then shown "$@" >&2; return; fi
    "$@" 2>"$ERRORS" && return
    grep -qiE 'NOT_FOUND|not found|cannot find|could not be found' "$ERRORS" || explain "$role"
}

command -v gcloud >/dev/null || $DRY_RUN || die "gcloud is not here: https://cloud.google.com/sdk/docs/install"
if [ -z "$PROJECT" ] && ! $DRY_RUN; then
    PROJECT=$(gcloud config get-value project 2>/dev/null) || true
    [ "$PROJECT" != '(unset)' ] || PROJECT=''
fi
if [ -z "$PROJECT" ]; then
    $DRY_RUN || die "Which project? Give --project ID, or run  gcloud config set project ID"
    PROJECT=your-project
fi
RUNTIME=$SERVICE@$PROJECT.iam.gserviceaccount.com
BUILD=$SERVICE-build@$PROJECT.iam.gserviceaccount.com
BILLING_PAGE="https://console.cloud.google.com/billing/linkedaccount?project=$PROJECT"
GCLOUD=(gcloud --project "$PROJECT" --quiet)

step "the project $PROJECT"
FOUND=$(look 'roles/browser on the project' "${GCLOUD[@]}" projects describe "$PROJECT" --format 'value(lifecycleState)')
if ! $DRY_RUN; then
    [ "$FOUND" = ACTIVE ] || die "There is no project $PROJECT, or you may not see it:  gcloud projects list"
fi
if ! $CODE_ONLY; then
    BILLING=("${GCLOUD[@]}" billing projects describe "$PROJECT" --format 'value(billingEnabled)')
    # Who may deploy needn't be allowed to see that; then the next step says it.
    if $DRY_RUN; then shown "${BILLING[@]}"; else FOUND=$("${BILLING[@]}" 2>/dev/null) || FOUND=''; fi
    [ "$FOUND" != False ] ||
        die "The project $PROJECT has no billing account: $BILLING_PAGE"
    step "APIs"
    call 'roles/serviceusage.serviceUsageAdmin on the project' "${GCLOUD[@]}" services enable \
        run.googleapis.com cloudbuild.googleapis.com artifactregistry.googleapis.com secretmanager.googleapis.com \
        iam.googleapis.com logging.googleapis.com
fi

step "the settings and deploy/relay.yaml"
# What the service has already stays.
HAS=$(look 'roles/run.viewer on the project' "${GCLOUD[@]}" run services describe "$SERVICE" --region "$REGION" \
    --format 'json(spec.template.spec.containers[0].env)')
if $CODE_ONLY && [ -z "$HAS" ] && ! $DRY_RUN; then
    die "There is no service $SERVICE in $REGION yet: terraform apply makes it, or this without --code-only."
fi
IS_NEW=true
if $CODE_ONLY || grep -qE '"(RELAY_SECRET|APIFY_TOKEN|DATA_WORLD_TOKEN)"' <<<"$HAS"; then IS_NEW=false; fi
if [ -z "$CONCURRENCY" ]; then
    CONCURRENCY=$(tr -d ' \n' <<<"$HAS" | sed -nE 's/.*"name":"THREADS","value":"([0-9]+)".*/\1/p')
fi
CONCURRENCY=${CONCURRENCY:-200}
if $IS_NEW; then
    SETTINGS=("GOOGLE_CLOUD_PROJECT=$PROJECT" RELAY_SECRET=relay-secret APIFY_TOKEN=apify-token DATA_WORLD_TOKEN=data-world-token
        ${SETTINGS[@]+"${SETTINGS[@]}"})
fi
SETTINGS=("THREADS=$CONCURRENCY" ${SETTINGS[@]+"${SETTINGS[@]}"})

# Asked of the function itself, as it will start there: a mistake is found before anything is built.
make -s .venv/run >"$ERRORS" 2>&1 || { cat "$ERRORS" >&2; die "The function's requirements can't be installed."; }
SECRETS=$(env -i PATH="$PATH" .venv/bin/python -m deploy.gcp.references "${SETTINGS[@]}" <<<"$HAS") ||
    die "The function would not start like that."
env -i PATH="$PATH" "${SETTINGS[@]}" .venv/bin/python main.py check >"$ERRORS" 2>&1 ||
    { cat "$ERRORS" >&2; die "A test of a hook fails."; }
TIMEOUT=$(sed -nE 's/^timeout.([0-9]+)$/\1/p' <<<"$SECRETS")
SECRETS=$(sed '/^timeout/d' <<<"$SECRETS")

# Puts the value of the secret $1, which $2 names as a $3, into VALUE; nothing, where it may be left out.
ask() {
    local variable
    variable=VALUE_$(printf '%s' "$1" | tr 'a-z-' 'A-Z_')
    VALUE=${!variable:-}
    if [ -n "$VALUE" ]; then return; fi
    if ! [ -t 0 ]; then
        [ "$1" != relay-secret ] || return 0
        die "The secret $1 ($2) has no value: set $variable, or run this at a terminal."
    fi
    # Before the prompt is seen: whoever pastes is quick.
    stty -echo
    case $3:$2 in
        token:*_TOKEN) printf '  %s (%s; nothing: leave it out): ' "$1" "$2" ;;
        token:*) printf '  %s (%s): ' "$1" "$2" ;;
        *) printf '  %s (%s; nothing: one is made): ' "$1" "$2" ;;
    esac
    IFS= read -r VALUE || true
    stty "$TERMINAL"
    echo
}

# Gives the secret $1 the value in VALUE. printf is the shell's own: the value is no process's argument.
add_value() {
    local command=("${GCLOUD[@]}" secrets versions add "$1" --data-file -)
    if $DRY_RUN; then
        printf '%s   # its value on standard input: from the terminal, or VALUE_…\n' "$(shown "${command[@]}")"
    else
        printf '%s' "$VALUE" | "${command[@]}" >/dev/null 2>"$ERRORS" ||
            explain 'roles/secretmanager.secretVersionAdder on the secret'
    fi
}

# Nothing is left of a setting whose secret was left out, nor of the secret.
leave_out() {
    local kept=() setting
    SECRETS=$(sed "/${TAB}$1\$/d" <<<"$SECRETS")
    for setting in "${SETTINGS[@]}"; do
        [ "${setting%%=*}" = "$1" ] || kept+=("$setting")
    done
    SETTINGS=("${kept[@]}")
}

TO_TRY='' TAB=$'\t'
if ! $CODE_ONLY; then
    step "accounts: $SERVICE, which the function runs as, and $SERVICE-build, which builds it"
    ACCOUNTS=$(look 'roles/iam.serviceAccountAdmin on the project' "${GCLOUD[@]}" iam service-accounts list --format 'value(email)')
    for account in "$SERVICE" "$SERVICE-build"; do
        if ! grep -qxF "$account@$PROJECT.iam.gserviceaccount.com" <<<"$ACCOUNTS"; then
            call 'roles/iam.serviceAccountAdmin on the project' "${GCLOUD[@]}" iam service-accounts create "$account" \
                --display-name "Dataset Relay: $account"
        fi
    done
    call 'roles/resourcemanager.projectIamAdmin on the project' "${GCLOUD[@]}" projects add-iam-policy-binding "$PROJECT" \
        --member "serviceAccount:$BUILD" --role roles/run.builder --condition None

    step "secrets, each readable by $SERVICE alone"
    THERE=$(look 'roles/secretmanager.viewer on the project' "${GCLOUD[@]}" secrets list --format 'value(name.basename())')
    while IFS=$'\t' read -r kind secret label <&3; do
        name=${secret##*/}
        case $label in
            'RELAY_SECRET (1 '*) TO_TRY=$name ;;
        esac
        location=()
        if [[ $secret =~ /locations/([^/]+)/ ]]; then
            echo "  $secret: a regional secret. It must exist."
            name=$secret
            location=(--location "${BASH_REMATCH[1]}")
        elif [ "${secret#projects/"$PROJECT"/}" = "$secret" ]; then
            [ -n "$secret" ] || continue
            echo "  $secret: not of this project; it must be there"
            name=$secret
        else
            VERSION=''
            if grep -qxF -- "$name" <<<"$THERE"; then
                # Not just any enabled version: the newest is what is read.
                VERSION=$(look 'roles/secretmanager.viewer on the project' "${GCLOUD[@]}" secrets versions describe latest \
                    --secret "$name" --format 'value(state)')
                [[ $VERSION =~ ^(enabled|ENABLED)$ ]] || VERSION=''
            fi
            if $DRY_RUN; then
                VALUE='(from the terminal, or the variable)'
            elif [ -z "$VERSION" ]; then
                ask "$name" "$label" "$kind"
            fi
            if [ -n "$VERSION" ]; then
                echo "  $name: there"
            elif [ -z "$VALUE" ] && [ "$kind" = token ]; then
                # What the service has already goes on being asked for there.
                case "$label ${SETTINGS[*]}" in
                    *_TOKEN\ *"$label="*) echo "  $name: left out; its provider answers 422"; leave_out "$label"; continue ;;
                    *) die "The secret $name ($label) needs a value." ;;
                esac
            else
                if [ -z "$VALUE" ]; then
                    VALUE=$(.venv/bin/python -c 'import secrets; print(secrets.token_hex(24))')
                    # A user and a password, where that is the proof.
                    [ "$kind" != basic ] || VALUE=relay:$VALUE
                    echo "  $name: made; to see it:  gcloud secrets versions access latest --project $PROJECT --secret $name"
                fi
                if ! grep -qxF -- "$name" <<<"$THERE"; then
                    call 'roles/secretmanager.admin on the project' "${GCLOUD[@]}" secrets create "$name" --replication-policy automatic
                fi
                add_value "$name"
            fi
            VALUE=''
        fi
        call 'roles/secretmanager.admin on the project' "${GCLOUD[@]}" secrets add-iam-policy-binding "$name" \
            ${location[@]+"${location[@]}"} --member "serviceAccount:$RUNTIME" --role roles/secretmanager.secretAccessor --condition None
    done 3<<<"$SECRETS"

    step "the platform's request log: without what has a query, which can hold a sender's secret (?token=)"
    # %3F: who encodes the question mark gets a 404, and has sent the secret all the same.
    EXCLUSION="name=$SERVICE-queries,filter=log_id(\"run.googleapis.com/requests\") AND resource.type=\"cloud_run_revision\" AND resource.labels.service_name=\"$SERVICE\" AND httpRequest.requestUrl=~\"[?]|%3[Ff]\""
    FOUND=$(look 'roles/logging.configWriter on the project' "${GCLOUD[@]}" logging sinks describe _Default --format 'value(exclusions.name)')
    if ! tr ';' '\n' <<<"$FOUND" | grep -qxF -- "$SERVICE-queries"; then
        call 'roles/logging.configWriter on the project' "${GCLOUD[@]}" logging sinks update _Default --add-exclusion "$EXCLUSION"
    fi
fi

step "the function: built and started; this takes the longest"
DEPLOY=("${GCLOUD[@]}" run deploy "$SERVICE" --region "$REGION" --source . --function relay --base-image python313
    --build-service-account "projects/$PROJECT/serviceAccounts/$BUILD" --format 'json(status.url,status.traffic)')
if ! $CODE_ONLY; then
    VARIABLES=$(printf '##%s' "${SETTINGS[@]}")
    DEPLOY+=(--concurrency "$CONCURRENCY" --update-env-vars "^##^${VARIABLES#\#\#}")
fi
# What a service has already may have been changed for a reason. The probe: a revision that doesn't answer /health, since
# a setting or relay.yaml is wrong, never gets a request.
if $IS_NEW; then
    DEPLOY+=(--service-account "$RUNTIME" --allow-unauthenticated --cpu-boost
        --cpu 1 --memory 512Mi --max-instances 10
        --startup-probe 'httpGet.path=/health,periodSeconds=1,timeoutSeconds=1,failureThreshold=60')
fi
if ! $CODE_ONLY && { $IS_NEW || grep -qE '(^| )RELAY_DEADLINE_SECONDS=' <<<"${SETTINGS[*]}"; }; then
    DEPLOY+=(--timeout "$TIMEOUT")
fi
DEPLOY+=(${EXTRA[@]+"${EXTRA[@]}"})
if $DRY_RUN; then
    shown "${DEPLOY[@]}"
    exit 0
fi
TRIES=0
# What gcloud says while it builds is for whoever waits; what the service is like then is for us.
until SERVES=$({ "${DEPLOY[@]}" 2>&1 >&4 | tee "$ERRORS" >&2; exit "${PIPESTATUS[0]}"; } 4>&1); do
    TRIES=$((TRIES + 1))
    if [ $TRIES -gt 6 ] || ! grep -qE "$NOT_YET" "$ERRORS"; then
        explain 'roles/run.admin on the project, and roles/iam.serviceAccountUser on both accounts. Were they granted a minute ago, by this script too? Then run it again' said
    fi
    sleep "${DEPLOY_PAUSE:-5}"
done

# Its address, and whether the newest revision gets requests.
read -r URL NEWEST <<<"$(.venv/bin/python -c 'import json, sys
status = json.load(sys.stdin)["status"]
print(status["url"], any(each.get("latestRevision") and each.get("percent") for each in status["traffic"]))' <<<"$SERVES")"

step "asking it"
ANSWER='' TRIES=0
# Who may call it is known everywhere only after some seconds.
until [ "$ANSWER" = 200 ] || [ $TRIES -ge 12 ]; do
    [ $TRIES -eq 0 ] || sleep "${DEPLOY_PAUSE:-5}"
    ANSWER=$(curl -s -o /dev/null -w '%{http_code}' --max-time 30 "$URL/health") || true
    TRIES=$((TRIES + 1))
done
case $ANSWER in
    200) echo "  $URL/health: 200" ;;
    401 | 403) die "$URL/health: $ANSWER. Nobody is let in without a Google account. If that isn't meant so: deploy/README.md, Google Cloud." ;;
    *) die "$URL/health: $ANSWER. Its log:  gcloud run services logs read $SERVICE --project $PROJECT --region $REGION" ;;
esac
if [ "$NEWEST" != True ]; then
    cat <<TEXT
  That was the revision before. The new one is there, but gets no requests, since there was a rollback or --no-traffic.
  To give it all of them:
  gcloud run services update-traffic $SERVICE --project $PROJECT --region $REGION --to-latest
TEXT
fi
if [ -n "$TO_TRY" ]; then
    PROVIDER=data.world DATASET=OWNER/ID UPDATE='{"visibility": "PRIVATE"}'
    if grep -q "${TAB}APIFY_TOKEN\$" <<<"$SECRETS"; then
        PROVIDER=apify DATASET=YOUR-DATASET-ID UPDATE='{"generalAccess": "RESTRICTED"}'
    fi
    # The secret is in a header on standard input: ps would show an argument to every user of the machine.
    cat <<TEXT

To try it, with the id of a dataset of yours; nothing is changed before you take ?dry_run=true away:

curl -sS '$URL/?dry_run=true' -H 'Content-Type: application/json' -H @- \\
    -d '{"provider": "$PROVIDER", "dataset": "$DATASET", "update": $UPDATE}' <<HEADER
Authorization: Bearer \$(gcloud secrets versions access latest --project $PROJECT --secret $TO_TRY)
HEADER
TEXT
fi
