output "public_base_url" {
  description = "PUBLIC_BASE_URL of the services."
  value       = "https://${try(var.aliases[0], aws_cloudfront_distribution.media.domain_name)}"
}

output "distribution_id" {
  description = "For invalidations: aws cloudfront create-invalidation --distribution-id ... --paths '/media/images/<id>/*'."
  value       = aws_cloudfront_distribution.media.id
}

output "services_policy_arn" {
  description = "Policy to attach to the role of the services."
  value       = aws_iam_policy.services.arn
}

output "bucket_name" {
  description = "S3_BUCKET of the services."
  value       = aws_s3_bucket.images.bucket
}
