# The input variables: first the required variable, then the optional ones. Each validation stops the plan at a mistake
# that Terraform can detect without a request to Google.

variable "project" {
  description = "The ID of the Google Cloud project for all resources."
  type        = string

  validation {
    # https://cloud.google.com/resource-manager/docs/creating-managing-projects
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project))
    error_message = "Must be a project ID: 6 to 30 lowercase letters, digits, and hyphens, beginning with a letter."
  }
}

variable "region" {
  description = "The region of the service."
  type        = string
  default     = "europe-west1"

  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]+$", var.region))
    error_message = "Must be a region, such as europe-west1."
  }
}

variable "service_name" {
  description = "The name of the Cloud Run service. The names of the metrics, alerts, and dashboard contain this name."
  type        = string
  default     = "dataset-relay"

  validation {
    # https://cloud.google.com/run/docs/deploying
    condition     = can(regex("^[a-z]([a-z0-9-]{0,47}[a-z0-9])?$", var.service_name))
    error_message = <<-EOT
      Must be 1 to 49 lowercase letters, digits, and hyphens. It must begin with a letter and not end with a hyphen.
    EOT
  }
}

variable "image" {
  description = <<-EOT
    The placeholder image for the creation of the service. The first deployment of code replaces the image, and
    Terraform ignores that change.
  EOT
  type        = string
  default     = "us-docker.pkg.dev/cloudrun/container/hello"

  validation {
    condition = can(regex(
      "^[a-z0-9.-]+\\.[a-z]+/[A-Za-z0-9._/-]+(:[A-Za-z0-9._-]+)?(@sha256:[0-9a-f]{64})?$", var.image
    ))
    error_message = "Must be an image with its registry, such as us-docker.pkg.dev/cloudrun/container/hello."
  }
}

# The service accounts.

variable "runtime_account" {
  description = "The ID of the service account of the function."
  type        = string
  default     = "dataset-relay"

  validation {
    # https://cloud.google.com/iam/docs/service-accounts-create
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.runtime_account))
    error_message = <<-EOT
      Must be 6 to 30 lowercase letters, digits, and hyphens. It must begin with a letter and not end with a hyphen.
    EOT
  }
}

variable "build_account" {
  description = "The ID of the service account of the build."
  type        = string
  default     = "dataset-relay-build"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.build_account))
    error_message = <<-EOT
      Must be 6 to 30 lowercase letters, digits, and hyphens. It must begin with a letter and not end with a hyphen.
    EOT
  }

  validation {
    condition     = var.build_account != var.runtime_account
    error_message = "Must differ from runtime_account, because a build must not read the secrets."
  }
}

variable "github_account" {
  description = "The ID of the service account of GitHub's workflow, which exists only with github_repository."
  type        = string
  default     = "dataset-relay-deploy"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.github_account))
    error_message = <<-EOT
      Must be 6 to 30 lowercase letters, digits, and hyphens. It must begin with a letter and not end with a hyphen.
    EOT
  }

  validation {
    condition     = !contains([var.runtime_account, var.build_account], var.github_account)
    error_message = "Must differ from runtime_account and build_account: each service account has grants of its own."
  }
}

variable "push_account" {
  description = "The ID of the service account of the pushes from the queue, which exists only with queue."
  type        = string
  default     = "dataset-relay-push"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.push_account))
    error_message = <<-EOT
      Must be 6 to 30 lowercase letters, digits, and hyphens. It must begin with a letter and not end with a hyphen.
    EOT
  }

  validation {
    condition     = !contains([var.runtime_account, var.build_account, var.github_account], var.push_account)
    error_message = "Must differ from the other service accounts, because each service account has grants of its own."
  }
}

# The names of the secrets. Like the function at startup, the validations reject a value that looks like a secret.

variable "apify_token_secret" {
  description = "The name of the secret with the token for Apify, or null to leave out Apify."
  type        = string
  default     = "apify-token"

  validation {
    condition     = var.apify_token_secret == null || can(regex("^[A-Za-z0-9_-]{1,255}$", var.apify_token_secret))
    error_message = "Must be the name of a secret: 1 to 255 letters, digits, hyphens, and underscores."
  }

  validation {
    condition     = !can(regex(local.looks_like_a_secret, var.apify_token_secret))
    error_message = "Must be the name of a secret. The value looks like a token or like the secret itself."
  }
}

variable "data_world_token_secret" {
  description = "The name of the secret with the token for data.world, or null to leave out data.world."
  type        = string
  default     = "data-world-token"

  validation {
    condition = (
      var.data_world_token_secret == null || can(regex("^[A-Za-z0-9_-]{1,255}$", var.data_world_token_secret))
    )
    error_message = "Must be the name of a secret: 1 to 255 letters, digits, hyphens, and underscores."
  }

  validation {
    condition     = !can(regex(local.looks_like_a_secret, var.data_world_token_secret))
    error_message = "Must be the name of a secret. The value looks like a token or like the secret itself."
  }
}

variable "relay_secrets" {
  description = "The names of the secrets for native events. POST / accepts each secret, and returns 401 without any."
  type        = list(string)
  default     = ["relay-secret"]
  nullable    = false

  validation {
    condition     = alltrue([for name in var.relay_secrets : can(regex("^[A-Za-z0-9_-]{1,255}$", name))])
    error_message = "Must be a list of names of secrets. A name has 1 to 255 letters, digits, hyphens, and underscores."
  }

  validation {
    condition     = !anytrue([for name in var.relay_secrets : can(regex(local.looks_like_a_secret, name))])
    error_message = "Must be a list of names of secrets. A value looks like a token or like a secret itself."
  }
}

variable "hook_secrets" {
  description = "The names of the secrets in relay.yaml: the secrets and the tokens of the hooks."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for name in var.hook_secrets : can(regex("^[A-Za-z0-9_-]{1,255}$", name))])
    error_message = "Must be a list of names of secrets. A name has 1 to 255 letters, digits, hyphens, and underscores."
  }

  validation {
    condition     = !anytrue([for name in var.hook_secrets : can(regex(local.looks_like_a_secret, name))])
    error_message = "Must be a list of names of secrets. A value looks like a token or like a secret itself."
  }
}

variable "secret_locations" {
  description = "The only regions that may store the secrets. With an empty list, Google chooses the regions."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for name in var.secret_locations : can(regex("^[a-z]+-[a-z]+[0-9]+$", name))])
    error_message = "Must be a list of regions, such as europe-west1."
  }
}

variable "deletion_protection" {
  description = <<-EOT
    Protect the service and the secrets from destruction. Before you run `terraform destroy`, set this variable to false
    and run `terraform apply`.
  EOT
  type        = bool
  default     = true
  nullable    = false
}

# The service.

variable "settings" {
  description = "Further settings of the function. deploy/README.md has a table of the settings."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    # The list has neither the settings that Terraform derives from other variables (the secret references, THREADS,
    # WORKERS, GOOGLE_CLOUD_PROJECT, and the settings of the queue), nor the settings that don't work on Cloud Run
    # (RELAY_ALLOW_UNAUTHENTICATED and the addresses of emulators). RELAY_PUSH_CERTS_URL is only for tests.
    # RELAY_PARK_AFTER_SECONDS has no effect without the queue.
    condition = length(setsubtract(keys(var.settings), [
      "APIFY_BASE_URL", "DATA_WORLD_BASE_URL", "LOG_LEVEL", "RELAY_CONFIG", "RELAY_DEADLINE_SECONDS",
      "RELAY_MAX_BODY_BYTES", "RELAY_PARK_AFTER_SECONDS", "RELAY_PROVIDER_CONCURRENCY", "RELAY_SECRET_TTL_SECONDS",
    ])) == 0
    error_message = <<-EOT
      Must contain only these settings: APIFY_BASE_URL, DATA_WORLD_BASE_URL, LOG_LEVEL, RELAY_CONFIG,
      RELAY_DEADLINE_SECONDS, RELAY_MAX_BODY_BYTES, RELAY_PARK_AFTER_SECONDS, RELAY_PROVIDER_CONCURRENCY, and
      RELAY_SECRET_TTL_SECONDS. Other settings have a variable of their own, or don't work on Cloud Run.
    EOT
  }

  validation {
    condition     = !anytrue([for value in values(var.settings) : can(regex(local.looks_like_a_secret, value))])
    error_message = "Must not contain a token or a secret. Store the value in Secret Manager."
  }

  validation {
    # The log lines of successful deliveries have the severity INFO. Without these lines, the metrics would count only
    # failures.
    condition     = contains(["DEBUG", "INFO"], upper(lookup(var.settings, "LOG_LEVEL", "INFO")))
    error_message = "LOG_LEVEL must be INFO or DEBUG, because the metrics need the log lines with the severity INFO."
  }

  validation {
    # The arrival of the body, the processing of the event, and the transfer of the response can each take the deadline.
    # A shorter timeout of Cloud Run would interrupt a request before the function returns its response.
    condition = can(tonumber(lookup(var.settings, "RELAY_DEADLINE_SECONDS", "9"))) && try(
      tonumber(lookup(var.settings, "RELAY_DEADLINE_SECONDS", "9")) > 0 &&
      tonumber(lookup(var.settings, "RELAY_DEADLINE_SECONDS", "9")) * 3 <= var.timeout_seconds, false
    )
    error_message = "RELAY_DEADLINE_SECONDS must be greater than 0 and at most a third of timeout_seconds."
  }

  validation {
    condition = !contains(keys(var.settings), "RELAY_PROVIDER_CONCURRENCY") || try(
      tonumber(var.settings["RELAY_PROVIDER_CONCURRENCY"]) >= 1 &&
      tonumber(var.settings["RELAY_PROVIDER_CONCURRENCY"]) < var.concurrency, false
    )
    error_message = "RELAY_PROVIDER_CONCURRENCY must be at least 1 and less than concurrency."
  }

  validation {
    # The function publishes a failed update to the topic for dead letters before Pub/Sub deletes the update.
    condition = !contains(keys(var.settings), "RELAY_PARK_AFTER_SECONDS") || try(
      tonumber(var.settings["RELAY_PARK_AFTER_SECONDS"]) >= 0 &&
      tonumber(var.settings["RELAY_PARK_AFTER_SECONDS"]) <= 604800, false
    )
    error_message = "RELAY_PARK_AFTER_SECONDS must be a number of seconds from 0 to 604800."
  }

  validation {
    # https://cloud.google.com/pubsub/quotas#resource_limits
    condition     = !var.queue || try(tonumber(lookup(var.settings, "RELAY_MAX_BODY_BYTES", "1")) <= 7000000, false)
    error_message = "With queue, RELAY_MAX_BODY_BYTES must be at most 7000000: Pub/Sub limits a message to 10 MB."
  }
}

variable "concurrency" {
  description = <<-EOT
    The maximum number of concurrent requests per instance, and the number of threads (THREADS). With more requests than
    threads, requests would wait in the server, where Cloud Run doesn't count them.
  EOT
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
  description = "The time after which Cloud Run ends a request, in seconds."
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
  description = "The CPUs of an instance, each with one worker. Cloud Run needs at least 1 CPU for concurrent requests."
  type        = string
  default     = "1"
  nullable    = false

  validation {
    # https://cloud.google.com/run/docs/configuring/services/cpu
    condition     = contains(["1", "2", "4", "6", "8"], var.cpu)
    error_message = "Must be 1, 2, 4, 6, or 8."
  }
}

variable "memory" {
  description = "The memory of an instance, such as 512Mi or 1Gi."
  type        = string
  default     = "512Mi"
  nullable    = false

  validation {
    # https://cloud.google.com/run/docs/configuring/services/memory-limits
    condition = can(regex("^[0-9]+(Mi|Gi)$", var.memory)) && try(
      tonumber(regex("^[0-9]+", var.memory)) * (endswith(var.memory, "Gi") ? 1024 : 1) >= 256 &&
      tonumber(regex("^[0-9]+", var.memory)) * (endswith(var.memory, "Gi") ? 1024 : 1) <= 32768, false
    )
    error_message = "Must be an amount from 256Mi to 32Gi, in Mi or Gi."
  }
}

variable "min_instances" {
  description = <<-EOT
    The number of instances that Cloud Run keeps running without requests. Each of these instances incurs costs. With 0,
    the first request after a pause waits for the start of an instance.
  EOT
  type        = number
  default     = 0
  nullable    = false

  validation {
    condition     = var.min_instances >= 0 && var.min_instances <= 100 && floor(var.min_instances) == var.min_instances
    error_message = "Must be a whole number from 0 to 100."
  }

  validation {
    condition     = var.min_instances <= var.max_instances
    error_message = "Must be at most max_instances."
  }
}

variable "max_instances" {
  description = "The maximum number of instances, which limits the cost of a flood of requests."
  type        = number
  default     = 10
  nullable    = false

  validation {
    condition     = var.max_instances >= 1 && var.max_instances <= 100 && floor(var.max_instances) == var.max_instances
    error_message = "Must be a whole number from 1 to 100."
  }
}

# The queue.

variable "queue" {
  description = <<-EOT
    Deliver updates through queues on Pub/Sub. Before you set false again, read "Turning the queue off" in the runbook:
    Terraform then deletes the subscriptions, with all updates that wait in them.
  EOT
  type        = bool
  default     = false
  nullable    = false

  validation {
    condition     = !var.queue || var.apify_token_secret != null || var.data_world_token_secret != null
    error_message = "Must be false without apify_token_secret and data_world_token_secret: the queue needs a provider."
  }

  validation {
    # https://cloud.google.com/pubsub/docs/pubsub-basics#resource_names
    condition     = !var.queue || !startswith(var.service_name, "goog")
    error_message = "Must be false if service_name begins with goog, because Pub/Sub reserves such names of topics."
  }
}

variable "delivery_deadline_seconds" {
  description = "The time limit for the delivery of one update from the queue, in seconds."
  type        = number
  default     = 100
  nullable    = false

  validation {
    # The acknowledgment deadline of a subscription is 20 s longer, and at most 600 s.
    # https://cloud.google.com/pubsub/docs/subscription-properties#ack_deadline
    condition     = var.delivery_deadline_seconds > 0 && var.delivery_deadline_seconds <= 580
    error_message = "Must be a number of seconds greater than 0 and at most 580."
  }
}

# The deployment from GitHub.

variable "github_repository" {
  description = "The owner/name of the repository that deploys the code, or null for no deployment from GitHub."
  type        = string
  default     = null

  validation {
    condition = var.github_repository == null || can(regex(
      "^[A-Za-z0-9][A-Za-z0-9-]{0,38}/[A-Za-z0-9._-]{1,100}$", var.github_repository
    ))
    error_message = "Must have the form owner/name."
  }
}

variable "github_repository_id" {
  description = <<-EOT
    The numeric ID of the repository (gh api repos/OWNER/NAME --jq .id). With this ID, the condition for GitHub's token
    compares the ID in place of the name: after a rename or a deletion, another owner can reuse a name, but never an ID.
  EOT
  type        = string
  default     = null

  validation {
    condition     = var.github_repository_id == null || can(regex("^[1-9][0-9]{0,18}$", var.github_repository_id))
    error_message = "Must be the numeric ID of a repository, such as 123456789."
  }

  validation {
    condition     = var.github_repository_id == null || var.github_repository != null
    error_message = "Must be null without github_repository."
  }
}

variable "github_ref" {
  description = "The only Git ref that can deploy the code."
  type        = string
  default     = "refs/heads/main"
  nullable    = false

  validation {
    condition     = can(regex("^refs/(heads|tags)/[A-Za-z0-9][A-Za-z0-9._/-]*$", var.github_ref))
    error_message = "Must be a full Git ref, such as refs/heads/main."
  }
}

variable "github_pool" {
  description = "The ID of the workload identity pool. Google reserves the ID of a deleted pool for 30 days."
  type        = string
  default     = "dataset-relay"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9-]{4,32}$", var.github_pool)) && !startswith(var.github_pool, "gcp-")
    error_message = "Must be 4 to 32 lowercase letters, digits, and hyphens, not beginning with gcp-."
  }
}

# The alerts.

variable "alert_emails" {
  description = "The email addresses for notifications."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for address in var.alert_emails : can(regex("^[^@\\s]+@[^@\\s]+\\.[^@\\s.]+$", address))])
    error_message = "Must be a list of email addresses."
  }
}

variable "notification_channels" {
  description = "Further notification channels, in the form projects/P/notificationChannels/N."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition = alltrue([
      for name in var.notification_channels : can(regex("^projects/[^/]+/notificationChannels/[^/]+$", name))
    ])
    error_message = "Must be a list of channels in the form projects/P/notificationChannels/N."
  }
}

variable "runbook" {
  description = <<-EOT
    The https address or the path of the runbook. Each alert adds the section. In a notification, only an https address
    becomes a link.
  EOT
  type        = string
  default     = "deploy/gcp/RUNBOOK.md"
  nullable    = false

  validation {
    condition     = can(regex("^(https://[^\\s#]+|[A-Za-z0-9._/-]+)$", var.runbook))
    error_message = "Must be an https address or a path, without a fragment (#)."
  }
}

variable "failure_count" {
  description = "The number of failed deliveries in 10 minutes above which an alert fires."
  type        = number
  default     = 5
  nullable    = false

  validation {
    condition     = var.failure_count >= 0 && floor(var.failure_count) == var.failure_count
    error_message = "Must be a whole number of at least 0."
  }
}

variable "failure_share" {
  description = <<-EOT
    The share of failed deliveries in an hour above which an alert fires. With few deliveries, a single failure exceeds
    the share. The alert is necessary even then, because GitHub and Airbyte never send an event again.
  EOT
  type        = number
  default     = 0.2
  nullable    = false

  validation {
    condition     = var.failure_share > 0 && var.failure_share < 1
    error_message = "Must be greater than 0 and less than 1."
  }
}

variable "latency_p95_ms" {
  description = <<-EOT
    An alert fires if the 95th percentile of the latency over 10 minutes is above this number of milliseconds. Most
    senders disconnect after 10 s.
  EOT
  type        = number
  default     = 5000
  nullable    = false

  validation {
    condition     = var.latency_p95_ms >= 1 && var.latency_p95_ms <= 60000
    error_message = "Must be a number of milliseconds from 1 to 60000."
  }
}

variable "busy_count" {
  description = <<-EOT
    An alert fires if the function returns 503 to more than this number of requests within 10 minutes, because too many
    calls to a provider are in progress.
  EOT
  type        = number
  default     = 10
  nullable    = false

  validation {
    condition     = var.busy_count >= 0 && floor(var.busy_count) == var.busy_count
    error_message = "Must be a whole number of at least 0."
  }
}

variable "waiting_seconds" {
  description = "The age of the oldest update in the queue above which an alert fires, in seconds."
  type        = number
  default     = 3600
  nullable    = false

  validation {
    condition = (
      var.waiting_seconds >= 60 && var.waiting_seconds <= 604800 && floor(var.waiting_seconds) == var.waiting_seconds
    )
    error_message = "Must be a whole number of seconds from 60 to 604800."
  }
}

variable "metric_wait_seconds" {
  description = "The wait between the creation of metrics and alerts, in seconds. alerts.tf has the reason."
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
  # The formats of tokens and secrets that the function rejects (schemas/secret_reference.py). Unlike the function, the
  # validations also find these formats in the middle of a value. The last format is a key of 32 or more hexadecimal
  # digits, which the name of a secret hardly ever contains.
  looks_like_a_secret = "apify_api_|whsec_|eyJ[A-Za-z0-9_-]|gh[pousr]_|github_pat_|glpat-|dbt[uc]_|[0-9a-fA-F]{32,}"
}
