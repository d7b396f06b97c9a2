"""Which records of fences a rebuild writes."""

from uuid import UUID

from ops.index.rebuild import fence_writes
from ops.log.fold import Fold
from shared.contract.keys import Owner
from shared.contract.logged_command import versioned
from shared.read_model.tables import Write, fence_insert
from tests.support.records import cleared, deleted, uploaded

OWNERS = [Owner(type="user", id=str(number)) for number in range(5)]


def test_a_rebuild_writes_the_records_of_fences_that_still_cover_an_image() -> None:
    fold = Fold(1)
    images = [uploaded(owner=owner) for owner in OWNERS]
    for image in images:
        fold.add_command(versioned(image, 10))
    done, open_fence, set_fence, keeping, tombstoned = OWNERS
    fold.add_command(versioned(cleared(owner=done), 20))
    fold.add_command(versioned(deleted(images[0].image_id, done), 22))
    fold.add_command(versioned(cleared(owner=open_fence), 24))
    fold.add_command(versioned(cleared(12, owner=open_fence), 26))
    fold.add_command(versioned(cleared(10, owner=set_fence), 28))
    fold.add_command(versioned(cleared(keep=(images[3].image_id,), owner=keeping), 30))
    fold.add_command(versioned(cleared(owner=tombstoned), 32))
    expected: list[Write] = [fence_insert(open_fence, 24)]
    assert fence_writes(fold, {images[4].image_id}) == expected


def test_a_slice_without_the_images_of_an_owner_writes_no_record() -> None:
    image = uploaded(UUID(int=uploaded().image_id.int & ~1))
    for number, expected in ((0, 1), (1, 0)):
        fold = Fold(1, number, 2)
        if fold.covers(image.image_id):
            fold.add_command(versioned(image, 10))
        fold.add_command(versioned(cleared(), 20))
        assert len(fence_writes(fold, ())) == expected
