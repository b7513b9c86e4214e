#!/usr/bin/env bash
# Deploy Dataset Relay to Cloud Run functions: from an empty project to a working function, and again after a change.
# The script keeps existing resources as they are. `deploy.sh --help` lists the options. The script needs bash 3.2 (as on
# macOS) or newer.
set -euo pipefail
# A trace of the shell or a request log of gcloud would show the values of secrets.
set +x
export CLOUDSDK_CORE_LOG_HTTP=false
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

usage() {
    cat <<'TEXT'
deploy/gcp/deploy.sh [options] [-- flags for `gcloud run deploy`]

  --project ID        The project. Default: the current project of gcloud.
  --region REGION     The region. Default: europe-west1.
  --service NAME      The name of the service, and the prefix of its service accounts and of its queue. Default:
                      dataset-relay.
  --concurrency N     The number of concurrent requests per instance, and of its threads. Default: the number of the
                      deployed service, or 200.
  --set NAME=VALUE    Change a setting (see Settings in deploy/README.md). Repeat the option for each setting. All
                      other settings keep their values.
  --queue             Create the queue on Pub/Sub, and turn it on. Without the option, a deployed queue stays on.
  --code-only         Deploy only the code, in a project that Terraform has set up.
  --dry-run           Print the commands for an empty project, without a call to Google.
  --help              Show this help.

The script asks for the value of each new secret. In place of typing a value, you can set a variable: VALUE_ and the
name of the secret in capitals, such as VALUE_APIFY_TOKEN for apify-token. The script never shows a value, and never
passes a value as an argument of a command.
TEXT
}

PROJECT='' REGION=europe-west1 SERVICE=dataset-relay CONCURRENCY='' QUEUE=false CODE_ONLY=false DRY_RUN=false
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
        --queue) QUEUE=true ;;
        --code-only) CODE_ONLY=true ;;
        --dry-run) DRY_RUN=true ;;
        --help | -h) usage; exit 0 ;;
        --) shift; EXTRA=("$@"); break ;;
        *) echo "Unknown option: $1" >&2; usage >&2; exit 2 ;;
    esac
    shift
done

# Keep the values of secrets out of the environment of other programs.
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
        THREADS=*) die "--set THREADS: use --concurrency, which sets the number of threads, too." ;;
        RELAY_CONFIG=[!/]*) die "--set RELAY_CONFIG: the deployment contains only deploy/relay.yaml. Copy the hooks there." ;;
        PORT=* | K_*=*) die "--set ${setting%%=*}: Cloud Run sets this variable itself. Remove the option." ;;
        RELAY_DELIVERY_DEADLINE_SECONDS=*)
            $QUEUE || die "--set RELAY_DELIVERY_DEADLINE_SECONDS: add --queue, which also changes the subscriptions." ;;
        [A-Z]*=*) ;;
        *) die "--set needs a value of the form NAME=VALUE, with a name in capitals." ;;
    esac
    case $setting in
        # `gcloud run deploy` gets all settings in one argument, separated by ##.
        *'##'* | *'#') die "--set ${setting%%=*}: the value must not contain ## or end with #." ;;
    esac
done
if $QUEUE && $CODE_ONLY; then
    die "--queue and --code-only exclude each other: Terraform creates the queue with queue = true."
fi
case $CONCURRENCY in
    *[!0-9]* | 0*) die "--concurrency must be a number from 1 to 1000." ;;
esac
[ -z "$CONCURRENCY" ] || [ "$CONCURRENCY" -le 1000 ] || die "--concurrency must be a number from 1 to 1000."

# Google limits the name of a service account, such as NAME-build, to 6 to 30 characters.
# https://cloud.google.com/iam/docs/service-accounts-create
[[ $SERVICE =~ ^[a-z][a-z0-9-]{4,22}[a-z0-9]$ ]] ||
    die "--service must be 6 to 24 lowercase letters, digits, and hyphens. It must begin with a letter and not end with a hyphen."

if [ -n "${RELAY_CONFIG:-}" ]; then
    echo "deploy.sh: RELAY_CONFIG has no effect here: the hooks of the deployment are in deploy/relay.yaml." >&2
fi

step() { printf '== %s\n' "$1"; }

# print_command WORD…: print a command with the quotes that a shell needs.
print_command() {
    local word line='+'
    for word in "$@"; do
        case $word in
            *[!A-Za-z0-9_./:=,@%+-]* | '') line="$line '$(printf '%s' "$word" | sed "s/'/'\\\\''/g")'" ;;
            *) line="$line $word" ;;
        esac
    done
    printf '%s\n' "$line"
}

# explain ROLE [shown]: exit with the cause of a failed step and its remedy. ROLE is the role that the step needs, with
# its resource. With `shown`, the output of gcloud is already on the terminal.
explain() {
    [ "${2:-}" = shown ] || sed 's/^/    /' "$ERRORS" >&2
    if grep -qiE 'not currently have an active account|reauthentication|invalid_grant' "$ERRORS"; then
        die "gcloud is not logged in. Run: gcloud auth login"
    elif grep -qiE 'billing (account|must be enabled|is disabled)|BILLING_DISABLED' "$ERRORS"; then
        die "The project $PROJECT has no billing account. Link one: $BILLING_PAGE"
    elif grep -qiE 'permission|forbidden|403' "$ERRORS"; then
        die "Your account lacks a permission, or the project does not exist. Ask an owner of the project for: $1"
    fi
    die "The step failed. The error of gcloud is above. Correct the mistake, and run the script again."
}

# A new service account is visible to all services of Google only after some seconds.
NOT_VISIBLE_YET='[Ss]ervice account .* does not exist|concurrent policy changes'

# change ROLE COMMAND…: run a command that changes a resource.
change() {
    local role=$1 tries=0
    shift
    if $DRY_RUN; then print_command "$@"; return; fi
    until "$@" >/dev/null 2>"$ERRORS"; do
        tries=$((tries + 1))
        if [ $tries -gt 6 ] || ! grep -qE "$NOT_VISIBLE_YET" "$ERRORS"; then explain "$role"; fi
        sleep "${DEPLOY_PAUSE:-5}"
    done
}

# inspect ROLE COMMAND…: run a command that reads a resource. Print nothing if the resource does not exist.
inspect() {
    local role=$1
    shift
    # stdout is the description of the resource. The command itself goes to stderr.
    if $DRY_RUN; then print_command "$@" >&2; return; fi
    "$@" 2>"$ERRORS" && return
    grep -qiE 'NOT_FOUND|not found|cannot find|could not be found' "$ERRORS" || explain "$role"
}

command -v gcloud >/dev/null || $DRY_RUN || die "gcloud is not installed: https://cloud.google.com/sdk/docs/install"
if [ -z "$PROJECT" ] && ! $DRY_RUN; then
    PROJECT=$(gcloud config get-value project 2>/dev/null) || true
    [ "$PROJECT" != '(unset)' ] || PROJECT=''
fi
if [ -z "$PROJECT" ]; then
    $DRY_RUN || die "No project is set. Use --project ID, or run: gcloud config set project ID"
    PROJECT=your-project
fi
RUNTIME=$SERVICE@$PROJECT.iam.gserviceaccount.com
BUILD=$SERVICE-build@$PROJECT.iam.gserviceaccount.com
PUSH=$SERVICE-push@$PROJECT.iam.gserviceaccount.com
BILLING_PAGE="https://console.cloud.google.com/billing/linkedaccount?project=$PROJECT"
GCLOUD=(gcloud --project "$PROJECT" --quiet)

step "the project $PROJECT"
FOUND=$(inspect 'roles/browser on the project' "${GCLOUD[@]}" projects describe "$PROJECT" \
    --format 'value(lifecycleState,projectNumber)')
read -r FOUND NUMBER <<<"$FOUND"
NUMBER=${NUMBER:-YOUR-NUMBER}
if ! $DRY_RUN; then
    [ "$FOUND" = ACTIVE ] || die "The project $PROJECT does not exist, or your account may not see it. To list your projects, run: gcloud projects list"
fi
if ! $CODE_ONLY; then
    BILLING=("${GCLOUD[@]}" billing projects describe "$PROJECT" --format 'value(billingEnabled)')
    # An account that may deploy doesn't always have the permission to see this. The next step then reports the mistake.
    if $DRY_RUN; then print_command "${BILLING[@]}"; else FOUND=$("${BILLING[@]}" 2>/dev/null) || FOUND=''; fi
    [ "$FOUND" != False ] ||
        die "The project $PROJECT has no billing account. Link one: $BILLING_PAGE"
    step "APIs"
    APIS=(run.googleapis.com cloudbuild.googleapis.com artifactregistry.googleapis.com secretmanager.googleapis.com
        iam.googleapis.com logging.googleapis.com)
    if $QUEUE; then APIS+=(pubsub.googleapis.com); fi
    change 'roles/serviceusage.serviceUsageAdmin on the project' "${GCLOUD[@]}" services enable "${APIS[@]}"
fi

step "the settings and deploy/relay.yaml"
# The deployed service keeps its settings.
DEPLOYED=$(inspect 'roles/run.viewer on the project' "${GCLOUD[@]}" run services describe "$SERVICE" --region "$REGION" \
    --format 'json(spec.template.spec.containers[0].env)')
if $CODE_ONLY && [ -z "$DEPLOYED" ] && ! $DRY_RUN; then
    die "The service $SERVICE does not exist in $REGION. Create it with terraform apply, or run the script without --code-only."
fi
IS_NEW=true
if $CODE_ONLY || grep -qE '"(RELAY_SECRET|APIFY_TOKEN|DATA_WORLD_TOKEN)"' <<<"$DEPLOYED"; then IS_NEW=false; fi
if [ -z "$CONCURRENCY" ]; then
    CONCURRENCY=$(tr -d ' \n' <<<"$DEPLOYED" | sed -nE 's/.*"name":"THREADS","value":"([0-9]+)".*/\1/p')
fi
CONCURRENCY=${CONCURRENCY:-200}
if $IS_NEW; then
    SETTINGS=("GOOGLE_CLOUD_PROJECT=$PROJECT" RELAY_SECRET=relay-secret APIFY_TOKEN=apify-token DATA_WORLD_TOKEN=data-world-token
        ${SETTINGS[@]+"${SETTINGS[@]}"})
fi
if $QUEUE; then
    for provider in apify data-world; do
        variable=$(printf '%s' "$provider" | tr 'a-z-' 'A-Z_')
        if $IS_NEW || grep -q "\"${variable}_TOKEN\"" <<<"$DEPLOYED" || grep -q "${variable}_TOKEN=" <<<"${SETTINGS[*]-}"; then
            SETTINGS+=("${variable}_TOPIC=projects/$PROJECT/topics/$SERVICE-$provider")
        fi
    done
    SETTINGS+=("RELAY_DEAD_LETTER_TOPIC=projects/$PROJECT/topics/$SERVICE-dead-letters" "RELAY_PUSH_AUDIENCE=$SERVICE"
        "RELAY_PUSH_ACCOUNT=$PUSH" "RELAY_REGION=$REGION")
fi
SETTINGS=("THREADS=$CONCURRENCY" ${SETTINGS[@]+"${SETTINGS[@]}"})

# Start the function's own checks with the settings of the deployment, so that a mistake shows before the build.
make -s .venv/run >"$ERRORS" 2>&1 || { cat "$ERRORS" >&2; die "The packages of requirements.txt can't be installed. The error is above."; }
SECRETS=$(env -i PATH="$PATH" .venv/bin/python -m deploy.gcp.references "${SETTINGS[@]}" <<<"$DEPLOYED") ||
    die "The function can't start with these settings. Correct the mistakes above, and run the script again."
env -i PATH="$PATH" "${SETTINGS[@]}" .venv/bin/python main.py check >"$ERRORS" 2>&1 ||
    { cat "$ERRORS" >&2; die "A test of a hook failed. The difference is above."; }
TIMEOUT=$(sed -nE 's/^timeout.([0-9]+)$/\1/p' <<<"$SECRETS")
ACK_DEADLINE=$(sed -nE 's/^ack.([0-9]+)$/\1/p' <<<"$SECRETS")
SECRETS=$(sed '/^timeout/d; /^ack/d' <<<"$SECRETS")

# ask NAME LABEL KIND: set VALUE to the value of the secret NAME, from a variable or from the terminal. LABEL is the
# setting or the hook that refers to the secret. VALUE is empty if the user leaves out an optional value.
ask() {
    local variable
    variable=VALUE_$(printf '%s' "$1" | tr 'a-z-' 'A-Z_')
    VALUE=${!variable:-}
    if [ -n "$VALUE" ]; then return; fi
    if ! [ -t 0 ]; then
        [ "$1" != relay-secret ] || return 0
        die "The secret $1 ($2) has no value. Set $variable, or run the script in a terminal."
    fi
    # Stop the echo before the prompt appears, because a user can paste the value at once.
    stty -echo
    case $3:$2 in
        token:*_TOKEN) printf '  %s (%s; press Enter to leave it out): ' "$1" "$2" ;;
        token:*) printf '  %s (%s): ' "$1" "$2" ;;
        *) printf '  %s (%s; press Enter for a random secret): ' "$1" "$2" ;;
    esac
    IFS= read -r VALUE || true
    stty "$TERMINAL"
    echo
}

# add_value NAME: add VALUE as a new version of the secret NAME. printf is a builtin of the shell, so that the value is
# not an argument of a process.
add_value() {
    local command=("${GCLOUD[@]}" secrets versions add "$1" --data-file -)
    if $DRY_RUN; then
        printf '%s   # the value is on standard input\n' "$(print_command "${command[@]}")"
    else
        printf '%s' "$VALUE" | "${command[@]}" >/dev/null 2>"$ERRORS" ||
            explain 'roles/secretmanager.secretVersionAdder on the secret'
    fi
}

# leave_out SETTING: remove a setting whose secret has no value, and the secret.
leave_out() {
    local kept=() setting
    SECRETS=$(sed "/${TAB}$1\$/d" <<<"$SECRETS")
    for setting in "${SETTINGS[@]}"; do
        [ "${setting%%=*}" = "$1" ] || kept+=("$setting")
    done
    SETTINGS=("${kept[@]}")
}

SECRET_TO_TRY='' TAB=$'\t'
if ! $CODE_ONLY; then
    NAMES=("$SERVICE" "$SERVICE-build")
    if $QUEUE; then NAMES+=("$SERVICE-push"); fi
    step "service accounts: ${NAMES[*]}"
    ACCOUNTS=$(inspect 'roles/iam.serviceAccountAdmin on the project' "${GCLOUD[@]}" iam service-accounts list --format 'value(email)')
    for account in "${NAMES[@]}"; do
        if ! grep -qxF "$account@$PROJECT.iam.gserviceaccount.com" <<<"$ACCOUNTS"; then
            change 'roles/iam.serviceAccountAdmin on the project' "${GCLOUD[@]}" iam service-accounts create "$account" \
                --display-name "Dataset Relay: $account"
        fi
    done
    change 'roles/resourcemanager.projectIamAdmin on the project' "${GCLOUD[@]}" projects add-iam-policy-binding "$PROJECT" \
        --member "serviceAccount:$BUILD" --role roles/run.builder --condition None

    step "secrets, which only the service account $SERVICE may read"
    EXISTING=$(inspect 'roles/secretmanager.viewer on the project' "${GCLOUD[@]}" secrets list --format 'value(name.basename())')
    while IFS=$'\t' read -r kind secret label <&3; do
        name=${secret##*/}
        case $label in
            'RELAY_SECRET (1 '*) SECRET_TO_TRY=$name ;;
        esac
        location=()
        if [[ $secret =~ /locations/([^/]+)/ ]]; then
            echo "  $secret: a regional secret, which must exist"
            name=$secret
            location=(--location "${BASH_REMATCH[1]}")
        elif [ "${secret#projects/"$PROJECT"/}" = "$secret" ]; then
            [ -n "$secret" ] || continue
            echo "  $secret: a secret of another project, which must exist"
            name=$secret
        else
            VERSION=''
            if grep -qxF -- "$name" <<<"$EXISTING"; then
                # The function reads the newest version, so that another enabled version isn't enough.
                VERSION=$(inspect 'roles/secretmanager.viewer on the project' "${GCLOUD[@]}" secrets versions describe latest \
                    --secret "$name" --format 'value(state)')
                [[ $VERSION =~ ^(enabled|ENABLED)$ ]] || VERSION=''
            fi
            if $DRY_RUN; then
                VALUE='a value'
            elif [ -z "$VERSION" ]; then
                ask "$name" "$label" "$kind"
            fi
            if [ -n "$VERSION" ]; then
                echo "  $name: exists"
            elif [ -z "$VALUE" ] && [ "$kind" = token ]; then
                # Only a provider's setting of this run can be left out. The deployed service would still refer to another
                # secret.
                case "$label ${SETTINGS[*]}" in
                    *_TOKEN\ *"$label="*) echo "  $name: left out. Events for its provider get a 422."; leave_out "$label"; continue ;;
                    *) die "The secret $name ($label) needs a value." ;;
                esac
            else
                if [ -z "$VALUE" ]; then
                    VALUE=$(.venv/bin/python -c 'import secrets; print(secrets.token_hex(24))')
                    # Basic authentication needs a user and a password.
                    [ "$kind" != basic ] || VALUE=relay:$VALUE
                    echo "  $name: created. To see the value, run: gcloud secrets versions access latest --project $PROJECT --secret $name"
                fi
                if ! grep -qxF -- "$name" <<<"$EXISTING"; then
                    change 'roles/secretmanager.admin on the project' "${GCLOUD[@]}" secrets create "$name" --replication-policy automatic
                fi
                add_value "$name"
            fi
            VALUE=''
        fi
        change 'roles/secretmanager.admin on the project' "${GCLOUD[@]}" secrets add-iam-policy-binding "$name" \
            ${location[@]+"${location[@]}"} --member "serviceAccount:$RUNTIME" --role roles/secretmanager.secretAccessor --condition None
    done 3<<<"$SECRETS"

    step "request log of Cloud Run: exclude URLs with a query, which can contain a sender's secret (?token=)"
    # %3F: a sender that encodes the question mark gets a 404, but the URL in the log contains the secret.
    EXCLUSION="name=$SERVICE-queries,filter=log_id(\"run.googleapis.com/requests\") AND resource.type=\"cloud_run_revision\" AND resource.labels.service_name=\"$SERVICE\" AND httpRequest.requestUrl=~\"[?]|%3[Ff]\""
    FOUND=$(inspect 'roles/logging.configWriter on the project' "${GCLOUD[@]}" logging sinks describe _Default --format 'value(exclusions.name)')
    if ! tr ';' '\n' <<<"$FOUND" | grep -qxF -- "$SERVICE-queries"; then
        change 'roles/logging.configWriter on the project' "${GCLOUD[@]}" logging sinks update _Default --add-exclusion "$EXCLUSION"
    fi
fi

if $QUEUE; then
    # The subscriptions exist before the function publishes, because a topic without a subscription drops its messages.
    step "topics, to which only the service account $SERVICE may publish, and their subscriptions"
    TOPICS=$(inspect 'roles/pubsub.viewer on the project' "${GCLOUD[@]}" pubsub topics list --format 'value(name.basename())')
    EXISTING=$(inspect 'roles/pubsub.viewer on the project' "${GCLOUD[@]}" pubsub subscriptions list \
        --format 'value(name.basename(),topic)')
    # https://cloud.google.com/run/docs/triggering/https-request#deterministic
    PUSH_URL=https://$SERVICE-$NUMBER.$REGION.run.app/deliveries
    for setting in "${SETTINGS[@]}"; do
        case $setting in
            *_TOPIC=*) topic=${setting##*/} ;;
            *) continue ;;
        esac
        if ! grep -qxF -- "$topic" <<<"$TOPICS"; then
            change 'roles/pubsub.editor on the project' "${GCLOUD[@]}" pubsub topics create "$topic"
        fi
        change 'roles/pubsub.admin on the project' "${GCLOUD[@]}" pubsub topics add-iam-policy-binding "$topic" \
            --member "serviceAccount:$RUNTIME" --role roles/pubsub.publisher
        if [ "$topic" = "$SERVICE-dead-letters" ]; then
            options=(--message-retention-duration 31d)
        else
            options=(--push-endpoint "$PUSH_URL" --push-auth-service-account "$PUSH" --push-auth-token-audience "$SERVICE"
                --ack-deadline "$ACK_DEADLINE" --min-retry-delay 10s --max-retry-delay 600s)
        fi
        if grep -q "^$topic$TAB" <<<"$EXISTING"; then
            # A subscription stays behind if its topic is deleted, and gets no message of a new topic of the same name.
            grep -qxF -- "$topic${TAB}projects/$PROJECT/topics/$topic" <<<"$EXISTING" ||
                die "The subscription $topic belongs to another topic. Delete the subscription, and run the script again."
            change 'roles/pubsub.editor on the project' "${GCLOUD[@]}" pubsub subscriptions update "$topic" "${options[@]}"
        else
            # Pub/Sub can't turn on ordering for an existing subscription. By default, a subscription expires after 31 days
            # without activity.
            [ "$topic" = "$SERVICE-dead-letters" ] || options+=(--enable-message-ordering)
            change 'roles/pubsub.editor on the project, and roles/iam.serviceAccountUser on the service account of the pushes' \
                "${GCLOUD[@]}" pubsub subscriptions create "$topic" --topic "$topic" --expiration-period never "${options[@]}"
        fi
    done
fi

# allow_push: let the service account of the pushes call the service, even if the service isn't public.
allow_push() {
    change 'roles/run.admin on the project' "${GCLOUD[@]}" run services add-iam-policy-binding "$SERVICE" --region "$REGION" \
        --member "serviceAccount:$PUSH" --role roles/run.invoker
}

step "build and start the function (this step takes the longest)"
DEPLOY=("${GCLOUD[@]}" run deploy "$SERVICE" --region "$REGION" --source . --function relay --base-image python313
    --build-service-account "projects/$PROJECT/serviceAccounts/$BUILD" --format 'json(status.url,status.traffic)')
if ! $CODE_ONLY; then
    VARIABLES=$(printf '##%s' "${SETTINGS[@]}")
    DEPLOY+=(--concurrency "$CONCURRENCY" --update-env-vars "^##^${VARIABLES#\#\#}")
fi
# An existing service keeps its limits, which a person may have changed. With the startup probe, a revision gets requests
# only after it has responded to /health, which it never does after a mistake in a setting or in relay.yaml.
if $IS_NEW; then
    DEPLOY+=(--service-account "$RUNTIME" --allow-unauthenticated --cpu-boost
        --cpu 1 --memory 512Mi --max-instances 10
        --startup-probe 'httpGet.path=/health,periodSeconds=1,timeoutSeconds=1,failureThreshold=60')
fi
if ! $CODE_ONLY && { $IS_NEW || grep -qE '(^| )RELAY_(DELIVERY_)?DEADLINE_SECONDS=|_TOPIC=' <<<"${SETTINGS[*]}"; }; then
    DEPLOY+=(--timeout "$TIMEOUT")
fi
DEPLOY+=(${EXTRA[@]+"${EXTRA[@]}"})
if $DRY_RUN; then
    print_command "${DEPLOY[@]}"
    if $QUEUE; then allow_push; fi
    step "a dry run: nothing has changed"
    exit 0
fi
TRIES=0
# Show the progress of the build, which gcloud writes to stderr. stdout is the description of the service.
until DESCRIPTION=$({ "${DEPLOY[@]}" 2>&1 >&4 | tee "$ERRORS" >&2; exit "${PIPESTATUS[0]}"; } 4>&1); do
    TRIES=$((TRIES + 1))
    if [ $TRIES -gt 6 ] || ! grep -qE "$NOT_VISIBLE_YET" "$ERRORS"; then
        explain 'roles/run.admin on the project, and roles/iam.serviceAccountUser on both service accounts. A new permission takes effect after some minutes: then run the script again' shown
    fi
    sleep "${DEPLOY_PAUSE:-5}"
done

# Get the address of the service, and True if the newest revision gets requests.
read -r URL GETS_REQUESTS <<<"$(.venv/bin/python -c 'import json, sys
status = json.load(sys.stdin)["status"]
print(status["url"], any(each.get("latestRevision") and each.get("percent") for each in status["traffic"]))' <<<"$DESCRIPTION")"

if $QUEUE; then allow_push; fi

step "health check"
STATUS='' TRIES=0
# The permission of the public to call the service takes effect only after some seconds.
until [ "$STATUS" = 200 ] || [ $TRIES -ge 12 ]; do
    [ $TRIES -eq 0 ] || sleep "${DEPLOY_PAUSE:-5}"
    STATUS=$(curl -s -o /dev/null -w '%{http_code}' --max-time 30 "$URL/health") || true
    TRIES=$((TRIES + 1))
done
case $STATUS in
    200) echo "  $URL/health: 200" ;;
    401 | 403) die "$URL/health: $STATUS. The service requires a Google account. To open it to senders, see Google Cloud in deploy/README.md." ;;
    *) die "$URL/health: $STATUS. To read the log, run: gcloud run services logs read $SERVICE --project $PROJECT --region $REGION" ;;
esac
if [ "$GETS_REQUESTS" != True ]; then
    cat <<TEXT
  The earlier revision responded. The new revision gets no requests, because of a rollback or --no-traffic.
  To send all requests to the new revision, run:
  gcloud run services update-traffic $SERVICE --project $PROJECT --region $REGION --to-latest
TEXT
fi
if [ -n "$SECRET_TO_TRY" ]; then
    PROVIDER=data.world DATASET=OWNER/ID UPDATE='{"visibility": "PRIVATE"}'
    if grep -q "${TAB}APIFY_TOKEN\$" <<<"$SECRETS"; then
        PROVIDER=apify DATASET=YOUR-DATASET-ID UPDATE='{"generalAccess": "RESTRICTED"}'
    fi
    # curl reads the header with the secret from standard input, because ps shows arguments to every user of the machine.
    cat <<TEXT

To try the function, run this command with the ID of your own dataset. With ?dry_run=true, the command changes nothing:

curl -sS '$URL/?dry_run=true' -H 'Content-Type: application/json' -H @- \\
    -d '{"provider": "$PROVIDER", "dataset": "$DATASET", "update": $UPDATE}' <<HEADER
Authorization: Bearer \$(gcloud secrets versions access latest --project $PROJECT --secret $SECRET_TO_TRY)
HEADER
TEXT
fi
