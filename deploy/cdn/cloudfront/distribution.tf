resource "aws_cloudfront_origin_access_control" "media" {
  name                              = "${var.bucket_name}-media"
  description                       = "Signs the requests of the distribution to the private bucket."
  origin_access_control_origin_type = "s3"
  signing_behavior                  = "always"
  signing_protocol                  = "sigv4"
}

# /media/images/... is images/... in the bucket; manifests and everything else are not there for the public.
resource "aws_cloudfront_function" "media" {
  name    = "${replace(var.bucket_name, ".", "-")}-media"
  runtime = "cloudfront-js-2.0"
  publish = true
  code = templatefile("${path.module}/media.js.tftpl", {
    originals = var.public_originals
  })
}

resource "aws_cloudfront_cache_policy" "media" {
  name        = "${replace(var.bucket_name, ".", "-")}-media"
  min_ttl     = 0
  default_ttl = var.media_max_age
  max_ttl     = var.media_max_age

  parameters_in_cache_key_and_forwarded_to_origin {
    cookies_config {
      cookie_behavior = "none"
    }

    headers_config {
      header_behavior = "none"
    }

    query_strings_config {
      query_string_behavior = "none"
    }
  }
}

# What the gateway says with each file, said here, because the bucket does not know it.
resource "aws_cloudfront_response_headers_policy" "media" {
  name = "${replace(var.bucket_name, ".", "-")}-media"

  custom_headers_config {
    items {
      header   = "Cache-Control"
      value    = "public, max-age=${var.media_max_age}, immutable"
      override = true
    }

    items {
      header   = "Cross-Origin-Resource-Policy"
      value    = "cross-origin"
      override = true
    }
  }

  security_headers_config {
    content_type_options {
      override = true
    }

    content_security_policy {
      content_security_policy = "sandbox; default-src 'none'"
      override                = true
    }
  }

  cors_config {
    access_control_allow_credentials = false
    origin_override                  = true

    access_control_allow_headers {
      items = ["*"]
    }

    access_control_allow_methods {
      items = ["GET", "HEAD"]
    }

    access_control_allow_origins {
      items = ["*"]
    }
  }
}

resource "aws_cloudfront_distribution" "media" {
  enabled         = true
  is_ipv6_enabled = true
  http_version    = "http2and3"
  comment         = "Media of imagepipe"
  aliases         = var.aliases
  price_class     = var.price_class
  tags            = var.tags

  origin {
    origin_id                = "bucket"
    domain_name              = aws_s3_bucket.images.bucket_regional_domain_name
    origin_access_control_id = aws_cloudfront_origin_access_control.media.id
  }

  default_cache_behavior {
    target_origin_id           = "bucket"
    viewer_protocol_policy     = "redirect-to-https"
    allowed_methods            = ["GET", "HEAD"]
    cached_methods             = ["GET", "HEAD"]
    compress                   = false
    cache_policy_id            = aws_cloudfront_cache_policy.media.id
    response_headers_policy_id = aws_cloudfront_response_headers_policy.media.id

    function_association {
      event_type   = "viewer-request"
      function_arn = aws_cloudfront_function.media.arn
    }
  }

  # What is not there may be there in a moment.
  custom_error_response {
    error_code            = 404
    error_caching_min_ttl = 1
  }

  restrictions {
    geo_restriction {
      restriction_type = "none"
    }
  }

  viewer_certificate {
    cloudfront_default_certificate = var.certificate_arn == null
    acm_certificate_arn            = var.certificate_arn
    minimum_protocol_version       = var.certificate_arn == null ? null : "TLSv1.2_2021"
    ssl_support_method             = var.certificate_arn == null ? null : "sni-only"
  }
}
