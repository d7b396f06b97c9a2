variable "bucket_name" {
  description = "Name of the private bucket (S3_BUCKET)."
  type        = string
}

variable "media_max_age" {
  description = "Seconds that CloudFront and browsers keep media; deleted images fade after it. As MEDIA_MAX_AGE."
  type        = number
  default     = 86400
}

variable "public_originals" {
  description = "Whether uploads are served as they came, their metadata (position included) in them. As PUBLIC_ORIGINALS."
  type        = bool
  default     = true
}

variable "tombstone_days" {
  description = "Days for which a deletion is remembered, as TOMBSTONE_RETENTION: longer than commands and DLQ together."
  type        = number
  default     = 70
}

variable "aliases" {
  description = "Host names of the distribution, all in the certificate. Empty: CloudFront's own name."
  type        = list(string)
  default     = []
}

variable "certificate_arn" {
  description = "ACM certificate for the aliases, in us-east-1. Null without aliases."
  type        = string
  default     = null
}

variable "price_class" {
  description = "Which edges serve the media."
  type        = string
  default     = "PriceClass_100"
}

variable "tags" {
  description = "Tags of everything made here."
  type        = map(string)
  default     = {}
}
