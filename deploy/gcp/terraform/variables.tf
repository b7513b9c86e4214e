# What has to be said, then what may be. Every mistake that can be seen without asking Google stops the plan.

variable "project" {
  description = "The id of the Google Cloud project that all of this is in."
  type        = string

  validation {
    # https://cloud.google.com/resource-manager/docs/creating-managing-projects
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project))
    error_message = "Must be a project's id: 6 to 30 lower-case letters, digits and hyphens, a letter first."
  }
}

variable "region" {
  description = "Where the service runs."
  type        = string
  default     = "europe-west1"

  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]+$", var.region))
    error_message = "Must be a region, as europe-west1."
  }
}

variable "service_name" {
  description = "The Cloud Run service's name; metrics, alerts and the dashboard are named after it."
  type        = string
  default     = "dataset-relay"

  validation {
    # https://cloud.google.com/run/docs/deploying
    condition     = can(regex("^[a-z]([a-z0-9-]{0,47}[a-z0-9])?$", var.service_name))
    error_message = "Must be up to 49 lower-case letters, digits and hyphens, a letter first and no hyphen last."
  }
}

variable "image" {
  description = <<-EOT
    The image that the service is made with, once. A code deployment puts the function in its place, and Terraform
    leaves that alone.
  EOT
  type        = string
  default     = "us-docker.pkg.dev/cloudrun/container/hello"

  validation {
    condition = can(regex(
      "^[a-z0-9.-]+\\.[a-z]+/[A-Za-z0-9._/-]+(:[A-Za-z0-9._-]+)?(@sha256:[0-9a-f]{64})?$", var.image
    ))
    error_message = "Must be an image with its registry, as us-docker.pkg.dev/cloudrun/container/hello."
  }
}

# Accounts.

variable "runtime_account" {
  description = "The id of the account that the function runs as."
  type        = string
  default     = "dataset-relay"

  validation {
    # https://cloud.google.com/iam/docs/service-accounts-create
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.runtime_account))
    error_message = "Must be 6 to 30 lower-case letters, digits and hyphens, a letter first and no hyphen last."
  }
}

variable "build_account" {
  description = "The id of the account that builds the code."
  type        = string
  default     = "dataset-relay-build"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.build_account))
    error_message = "Must be 6 to 30 lower-case letters, digits and hyphens, a letter first and no hyphen last."
  }

  validation {
    condition     = var.build_account != var.runtime_account
    error_message = "Must not be the runtime account: what builds has no business with the secrets."
  }
}

variable "github_account" {
  description = "The id of the account that GitHub's workflow deploys as; made only with github_repository."
  type        = string
  default     = "dataset-relay-deploy"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.github_account))
    error_message = "Must be 6 to 30 lower-case letters, digits and hyphens, a letter first and no hyphen last."
  }

  validation {
    condition     = !contains([var.runtime_account, var.build_account], var.github_account)
    error_message = "Must be neither the runtime nor the build account: each has its own grants."
  }
}

# Secrets: names only. What looks like a secret itself is refused, as the function's own start does.

variable "apify_token_secret" {
  description = "The name of the secret that holds Apify's token; null: without Apify."
  type        = string
  default     = "apify-token"

  validation {
    condition     = var.apify_token_secret == null || can(regex("^[A-Za-z0-9_-]{1,255}$", var.apify_token_secret))
    error_message = "Must be a secret's bare name: letters, digits, - and _, up to 255."
  }

  validation {
    condition     = !can(regex(local.looks_like_a_secret, var.apify_token_secret))
    error_message = "Looks like a token or secret itself; give the name of the secret that holds it."
  }
}

variable "data_world_token_secret" {
  description = "The name of the secret that holds data.world's token; null: without data.world."
  type        = string
  default     = "data-world-token"

  validation {
    condition = (
      var.data_world_token_secret == null || can(regex("^[A-Za-z0-9_-]{1,255}$", var.data_world_token_secret))
    )
    error_message = "Must be a secret's bare name: letters, digits, - and _, up to 255."
  }

  validation {
    condition     = !can(regex(local.looks_like_a_secret, var.data_world_token_secret))
    error_message = "Looks like a token or secret itself; give the name of the secret that holds it."
  }
}

variable "relay_secrets" {
  description = "The names of the secrets that prove a native event; each is accepted. None: POST / answers 401."
  type        = list(string)
  default     = ["relay-secret"]
  nullable    = false

  validation {
    condition     = alltrue([for name in var.relay_secrets : can(regex("^[A-Za-z0-9_-]{1,255}$", name))])
    error_message = "Must be bare names of secrets: letters, digits, - and _, up to 255 each."
  }

  validation {
    condition     = !anytrue([for name in var.relay_secrets : can(regex(local.looks_like_a_secret, name))])
    error_message = "One looks like a token or secret itself; give the name of the secret that holds it."
  }
}

variable "hook_secrets" {
  description = "The names of the secrets that relay.yaml names: each hook's secret, and tokens of its own."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for name in var.hook_secrets : can(regex("^[A-Za-z0-9_-]{1,255}$", name))])
    error_message = "Must be bare names of secrets: letters, digits, - and _, up to 255 each."
  }

  validation {
    condition     = !anytrue([for name in var.hook_secrets : can(regex(local.looks_like_a_secret, name))])
    error_message = "One looks like a token or secret itself; give the name of the secret that holds it."
  }
}

variable "secret_locations" {
  description = "The regions that secrets are kept in, where they may not be kept anywhere else; none: Google chooses."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for name in var.secret_locations : can(regex("^[a-z]+-[a-z]+[0-9]+$", name))])
    error_message = "Must be regions, as europe-west1."
  }
}

variable "deletion_protection" {
  description = "Whether the service and the secrets can't be destroyed; set to false, and apply, before a destroy."
  type        = bool
  default     = true
  nullable    = false
}

# The service.

variable "settings" {
  description = "Further settings of the function, by the names in the table of deploy/README.md."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    # Left out: what has a variable here (references, THREADS, WORKERS, GOOGLE_CLOUD_PROJECT), and what
    # doesn't work on Cloud Run (RELAY_ALLOW_UNAUTHENTICATED, the emulator).
    condition = length(setsubtract(keys(var.settings), [
      "APIFY_BASE_URL", "DATA_WORLD_BASE_URL", "LOG_LEVEL", "RELAY_CONFIG", "RELAY_DEADLINE_SECONDS",
      "RELAY_MAX_BODY_BYTES", "RELAY_PROVIDER_CONCURRENCY", "RELAY_SECRET_TTL_SECONDS",
    ])) == 0
    error_message = "Has a setting that can't be set here; the table of deploy/README.md lists all, and comments here say why."
  }

  validation {
    condition     = !anytrue([for value in values(var.settings) : can(regex(local.looks_like_a_secret, value))])
    error_message = "A value looks like a token or secret; those are kept in Secret Manager."
  }

  validation {
    # Deliveries that succeed are logged at INFO: without them the metrics count failures alone.
    condition     = contains(["DEBUG", "INFO"], upper(lookup(var.settings, "LOG_LEVEL", "INFO")))
    error_message = "LOG_LEVEL must be INFO or DEBUG: metrics, dashboard and alerts are made from the lines at INFO."
  }

  validation {
    # A body, the work and the answer may each take a deadline; Cloud Run would cut what the function still answers.
    condition = can(tonumber(lookup(var.settings, "RELAY_DEADLINE_SECONDS", "9"))) && try(
      tonumber(lookup(var.settings, "RELAY_DEADLINE_SECONDS", "9")) > 0 &&
      tonumber(lookup(var.settings, "RELAY_DEADLINE_SECONDS", "9")) * 3 <= var.timeout_seconds, false
    )
    error_message = "RELAY_DEADLINE_SECONDS must be above 0 and at most a third of timeout_seconds."
  }

  validation {
    condition = !contains(keys(var.settings), "RELAY_PROVIDER_CONCURRENCY") || try(
      tonumber(var.settings["RELAY_PROVIDER_CONCURRENCY"]) >= 1 &&
      tonumber(var.settings["RELAY_PROVIDER_CONCURRENCY"]) < var.concurrency, false
    )
    error_message = "RELAY_PROVIDER_CONCURRENCY must be 1 or more, and less than concurrency."
  }
}

variable "concurrency" {
  description = "Requests at once per instance; also THREADS, since more requests than threads would queue unseen."
  type        = number
  default     = 200
  nullable    = false

  validation {
    # https://cloud.google.com/run/docs/about-concurrency
    condition     = var.concurrency >= 1 && var.concurrency <= 1000 && floor(var.concurrency) == var.concurrency
    error_message = "Must be a whole number from 1 to 1000."
  }
}

variable "timeout_seconds" {
  description = "When Cloud Run gives a request up."
  type        = number
  default     = 30
  nullable    = false

  validation {
    # https://cloud.google.com/run/docs/configuring/request-timeout
    condition = (
      var.timeout_seconds >= 1 && var.timeout_seconds <= 3600 && floor(var.timeout_seconds) == var.timeout_seconds
    )
    error_message = "Must be a whole number of seconds from 1 to 3600."
  }
}

variable "cpu" {
  description = "An instance's CPUs, with a worker (WORKERS) on each. Less than 1 would not do for a concurrency above 1."
  type        = string
  default     = "1"
  nullable    = false

  validation {
    # https://cloud.google.com/run/docs/configuring/services/cpu
    condition     = contains(["1", "2", "4", "6", "8"], var.cpu)
    error_message = "Must be 1, 2, 4, 6 or 8."
  }
}

variable "memory" {
  description = "An instance's memory, as 512Mi or 1Gi."
  type        = string
  default     = "512Mi"
  nullable    = false

  validation {
    # https://cloud.google.com/run/docs/configuring/services/memory-limits
    condition = can(regex("^[0-9]+(Mi|Gi)$", var.memory)) && try(
      tonumber(regex("^[0-9]+", var.memory)) * (endswith(var.memory, "Gi") ? 1024 : 1) >= 256 &&
      tonumber(regex("^[0-9]+", var.memory)) * (endswith(var.memory, "Gi") ? 1024 : 1) <= 32768, false
    )
    error_message = "Must be from 256Mi to 32Gi, in Mi or Gi."
  }
}

variable "min_instances" {
  description = "Instances that are kept, also when nobody calls; each costs. 0: the first call after a pause waits."
  type        = number
  default     = 0
  nullable    = false

  validation {
    condition     = var.min_instances >= 0 && var.min_instances <= 100 && floor(var.min_instances) == var.min_instances
    error_message = "Must be a whole number from 0 to 100."
  }

  validation {
    condition     = var.min_instances <= var.max_instances
    error_message = "Must not be above max_instances."
  }
}

variable "max_instances" {
  description = "The most instances that there are at once: the bound of what a flood of calls costs."
  type        = number
  default     = 10
  nullable    = false

  validation {
    condition     = var.max_instances >= 1 && var.max_instances <= 100 && floor(var.max_instances) == var.max_instances
    error_message = "Must be a whole number from 1 to 100."
  }
}

# GitHub.

variable "github_repository" {
  description = "owner/name of the repository whose workflow deploys the code; null: no pool, no third account."
  type        = string
  default     = null

  validation {
    condition = var.github_repository == null || can(regex(
      "^[A-Za-z0-9][A-Za-z0-9-]{0,38}/[A-Za-z0-9._-]{1,100}$", var.github_repository
    ))
    error_message = "Must be owner/name."
  }
}

variable "github_repository_id" {
  description = <<-EOT
    The repository's number (gh api repos/OWNER/NAME --jq .id). A name can be taken over by somebody else once it is
    given up, a number can't: where it is set it decides, and not the name.
  EOT
  type        = string
  default     = null

  validation {
    condition     = var.github_repository_id == null || can(regex("^[1-9][0-9]{0,18}$", var.github_repository_id))
    error_message = "Must be the repository's number."
  }

  validation {
    condition     = var.github_repository_id == null || var.github_repository != null
    error_message = "Needs github_repository."
  }
}

variable "github_ref" {
  description = "The only ref that may deploy."
  type        = string
  default     = "refs/heads/main"
  nullable    = false

  validation {
    condition     = can(regex("^refs/(heads|tags)/[A-Za-z0-9][A-Za-z0-9._/-]*$", var.github_ref))
    error_message = "Must be a whole ref, as refs/heads/main."
  }
}

variable "github_pool" {
  description = "The id of the workload identity pool. Of one that was deleted the id stays taken for 30 days."
  type        = string
  default     = "dataset-relay"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9-]{4,32}$", var.github_pool)) && !startswith(var.github_pool, "gcp-")
    error_message = "Must be 4 to 32 lower-case letters, digits and hyphens, and not begin with gcp-."
  }
}

# Alerts.

variable "alert_emails" {
  description = "Who is told by e-mail."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for address in var.alert_emails : can(regex("^[^@\\s]+@[^@\\s]+\\.[^@\\s.]+$", address))])
    error_message = "Must be e-mail addresses."
  }
}

variable "notification_channels" {
  description = "Other channels that are told, by name: projects/P/notificationChannels/N."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition = alltrue([
      for name in var.notification_channels : can(regex("^projects/[^/]+/notificationChannels/[^/]+$", name))
    ])
    error_message = "Must be names of channels: projects/P/notificationChannels/N."
  }
}

variable "runbook" {
  description = "Where those who are told find what to do; alerts add the section. An https address can be clicked on."
  type        = string
  default     = "deploy/gcp/RUNBOOK.md"
  nullable    = false

  validation {
    condition     = can(regex("^(https://[^\\s#]+|[A-Za-z0-9._/-]+)$", var.runbook))
    error_message = "Must be an https address or a path, without #."
  }
}

variable "failure_count" {
  description = "An alert if more deliveries than this fail within 10 minutes."
  type        = number
  default     = 5
  nullable    = false

  validation {
    condition     = var.failure_count >= 0 && floor(var.failure_count) == var.failure_count
    error_message = "Must be a whole number, 0 or more."
  }
}

variable "failure_share" {
  description = <<-EOT
    An alert if more than this share of an hour's deliveries fail. Where there are few, a single one is a large share,
    and is told: GitHub and Airbyte never send an event again.
  EOT
  type        = number
  default     = 0.2
  nullable    = false

  validation {
    condition     = var.failure_share > 0 && var.failure_share < 1
    error_message = "Must be above 0 and below 1."
  }
}

variable "latency_p95_ms" {
  description = "An alert if one delivery in twenty takes longer than this, over 10 minutes. Senders wait some 10 s."
  type        = number
  default     = 5000
  nullable    = false

  validation {
    condition     = var.latency_p95_ms >= 1 && var.latency_p95_ms <= 60000
    error_message = "Must be from 1 to 60000 milliseconds."
  }
}

variable "busy_count" {
  description = "An alert if more requests than this are turned away within 10 minutes, too many calls being under way."
  type        = number
  default     = 10
  nullable    = false

  validation {
    condition     = var.busy_count >= 0 && floor(var.busy_count) == var.busy_count
    error_message = "Must be a whole number, 0 or more."
  }
}

variable "metric_wait_seconds" {
  description = "How long to wait, once, between making the metrics and the alerts on them (alerts.tf says why)."
  type        = number
  default     = 60
  nullable    = false

  validation {
    condition = (
      var.metric_wait_seconds >= 0 && var.metric_wait_seconds <= 600 &&
      floor(var.metric_wait_seconds) == var.metric_wait_seconds
    )
    error_message = "Must be a whole number of seconds from 0 to 600."
  }
}

locals {
  # What schemas/secret_reference.py takes for a secret, anywhere in a value: nobody names a secret by 32 hex digits.
  looks_like_a_secret = "apify_api_|whsec_|eyJ[A-Za-z0-9_-]|gh[pousr]_|github_pat_|glpat-|dbt[uc]_|[0-9a-fA-F]{32,}"
}
