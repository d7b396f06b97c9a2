"""`imagepipe init` on real engines: it makes what is missing, and can be run again."""

import pytest
from pydantic import SecretStr

from ops.commands.init import init
from shared.cassandra.schema import MIGRATIONS, plan_schema
from shared.errors import ConfigurationError
from shared.kafka.topics import plan_topics
from shared.s3.store import s3_client
from shared.settings import Settings
from tests.support.engines.stack import Stack
from tests.support.isolation import isolated


async def test_init_creates_topics_tables_and_bucket_once(engines: Settings) -> None:
    with isolated(engines, bucket=True, keyspace=True, topics=True) as names:
        fresh = names.model_copy(
            update={
                "topic_prefix": f"{names.topic_prefix}init.",
                # The services' key is refused here: only the administrator's makes buckets.
                "s3_access_key_id": "nobody",
                "s3_secret_access_key": SecretStr("nothing-at-all"),
                "s3_admin_access_key_id": names.s3_access_key_id,
                "s3_admin_secret_access_key": names.s3_secret_access_key,
            }
        )
        assert {plan.action for plan in await plan_topics(fresh)} == {"create"}

        await init(fresh)

        assert {plan.action for plan in await plan_topics(fresh)} == {"keep"}
        assert plan_schema(fresh) == []
        assert len(list(MIGRATIONS.glob("*.cql"))) >= 1
        rules = s3_client(names).get_bucket_lifecycle_configuration(Bucket=names.s3_bucket)["Rules"]
        assert {rule["ID"] for rule in rules} == {"incoming", "tombstones"}
        assert await init(fresh) == []


async def test_init_leaves_the_bucket_alone_or_reports_what_it_lacks(engines: Settings, running: Stack) -> None:
    if not running.runs("s3"):
        pytest.skip("the S3 server is not this stack's own")
    services = running.settings
    assert await init(services.model_copy(update={"s3_manage_bucket": False})) == []
    with pytest.raises(ConfigurationError, match="S3_MANAGE_BUCKET=false"):
        await init(services)
