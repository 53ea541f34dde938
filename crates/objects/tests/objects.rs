//! What a store of objects promises, through its front door.

use futures::TryStreamExt;
use objects::{
    BucketName, ChecksumAlgorithm, ChecksumKind, ChecksumPlan, CompletedPart, Completion,
    Condition, CopySource, ListQuery, Object, ObjectKey, Objects, ObjectsError, PART_BYTES_MIN,
    Traits, Written,
};
use std::path::Path;

struct House {
    objects: Objects,
    bucket: BucketName,
    dir: tempfile::TempDir,
}

fn key(text: &str) -> ObjectKey {
    ObjectKey::parse(text).unwrap()
}

impl House {
    async fn open() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let objects = Objects::open(dir.path()).await.unwrap();
        let bucket = BucketName::parse("house").unwrap();
        objects.create_bucket(&bucket).await.unwrap();
        Self { objects, bucket, dir }
    }

    async fn written(&self, bytes: &[u8]) -> Written {
        let mut incoming = self.objects.begin(Some(ChecksumAlgorithm::Crc32), u64::MAX).unwrap();
        for piece in bytes.chunks(100_000) {
            incoming.write(piece).await.unwrap();
        }
        incoming.finish().await.unwrap()
    }

    async fn put(&self, name: &str, bytes: &[u8]) -> Object {
        let written = self.written(bytes).await;
        let (key, traits) = (key(name), Traits::default());
        self.objects.put((&self.bucket, &key), traits, written, &Condition::None).await.unwrap()
    }

    async fn bytes(&self, object: &Object, range: std::ops::Range<u64>) -> Vec<u8> {
        let content = self.objects.read(&self.bucket, object, &range).await.unwrap();
        let blocks: Vec<_> = content.into_stream().try_collect().await.unwrap();
        blocks.concat()
    }

    fn files(&self) -> usize {
        files_below(&self.dir.path().join("data")) + files_below(&self.dir.path().join("incoming"))
    }
}

fn files_below(dir: &Path) -> usize {
    std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| if path.is_dir() { files_below(&path) } else { 1 })
        .sum()
}

#[tokio::test]
async fn what_is_put_is_got_whole_and_in_ranges() {
    let house = House::open().await;
    let bytes: Vec<u8> = (0..1_500_000_u32).map(|n| (n % 251) as u8).collect();
    let object = house.put("../a/./b//c", &bytes).await;
    let found = house.objects.get(&house.bucket, &key("../a/./b//c")).await.unwrap();
    assert_eq!(found, object);
    assert_eq!(house.bytes(&found, 0..found.size).await, bytes);
    assert_eq!(house.bytes(&found, 600_000..600_003).await, &bytes[600_000..600_003]);
    let again = house.put("../a/./b//c", b"new").await;
    assert_eq!(again.etag, "22af645d1859cb5ca6da0c484f1f37ea");
    assert_eq!(house.files(), 1);
    house.objects.delete(&house.bucket, &again.key, &Condition::None).await.unwrap();
    assert_eq!(house.files(), 0);
}

#[tokio::test]
async fn a_reader_keeps_what_it_reads() {
    let house = House::open().await;
    let object = house.put("a", b"first").await;
    let reading = house.objects.read(&house.bucket, &object, &(0..5)).await.unwrap();
    house.put("a", b"second").await;
    house.objects.delete(&house.bucket, &key("a"), &Condition::None).await.unwrap();
    let blocks: Vec<_> = reading.into_stream().try_collect().await.unwrap();
    assert_eq!(blocks.concat(), b"first");
    assert_eq!(house.files(), 0);
    let gone = house.objects.read(&house.bucket, &object, &(0..5)).await.unwrap_err();
    assert!(matches!(gone, ObjectsError::NoSuchKey { .. }), "{gone}");
}

#[tokio::test]
async fn what_was_not_finished_leaves_nothing() {
    let house = House::open().await;
    let mut incoming = house.objects.begin(None, 10).unwrap();
    incoming.write(b"12345").await.unwrap();
    assert_eq!(house.files(), 1);
    drop(incoming);
    drop(house.written(b"abc").await);
    assert_eq!(house.files(), 0);
    let mut incoming = house.objects.begin(None, 10).unwrap();
    let error = incoming.write(b"12345678901").await.unwrap_err();
    assert!(matches!(error, ObjectsError::TooLarge { max: 10 }));
    drop(incoming);
    // Files that a process left which ended before it wrote their row.
    let kept = house.put("kept", b"kept").await;
    for stray in ["incoming/x", "data/ab/abc"] {
        let path = house.dir.path().join(stray);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "x").unwrap();
    }
    house.objects.close().await;
    let reopened = Objects::open(house.dir.path()).await.unwrap();
    assert_eq!(house.files(), 1);
    assert_eq!(reopened.get(&house.bucket, &kept.key).await.unwrap(), kept);
}

#[tokio::test]
async fn conditions_are_held_against_what_is_there() {
    let house = House::open().await;
    let put = |bytes: &'static [u8], condition: Condition| {
        let house = &house;
        async move {
            let written = house.written(bytes).await;
            let key = key("a");
            house.objects.put((&house.bucket, &key), Traits::default(), written, &condition).await
        }
    };
    let stale = put(b"x", Condition::Etag("0".into())).await.unwrap_err();
    assert!(matches!(stale, ObjectsError::NoSuchKey { .. }));
    let first = put(b"1", Condition::Absent).await.unwrap();
    let second = put(b"2", Condition::Absent).await.unwrap_err();
    assert!(matches!(second, ObjectsError::PreconditionFailed(_)));
    put(b"2", Condition::Etag(first.etag.clone())).await.unwrap();
    let stale = put(b"3", Condition::Etag(first.etag)).await.unwrap_err();
    assert!(matches!(stale, ObjectsError::PreconditionFailed(_)));
    assert_eq!(house.files(), 1);
}

#[tokio::test]
async fn lists_fold_page_and_sort_by_bytes() {
    let house = House::open().await;
    for name in ["b/1", "b/2", "a", "c/x/1", "c/y", "B", "é", "b0", "d"] {
        house.put(name, b"").await;
    }
    let list = |prefix: &str, delimiter: Option<&str>, after: &str, items_max| {
        let query = ListQuery {
            prefix: prefix.into(),
            delimiter: delimiter.map(Into::into),
            after: after.into(),
            items_max,
        };
        let house = &house;
        async move {
            let page = house.objects.list(&house.bucket, &query).await.unwrap();
            let keys: Vec<String> = page.objects.iter().map(|o| o.key.to_string()).collect();
            (keys.join(" "), page.prefixes.join(" "), page.next)
        }
    };
    let (keys, prefixes, next) = list("", None, "", 1000).await;
    assert_eq!((keys.as_str(), prefixes.as_str()), ("B a b/1 b/2 b0 c/x/1 c/y d é", ""));
    assert_eq!(next, None);
    let (keys, prefixes, _) = list("", Some("/"), "", 1000).await;
    assert_eq!((keys.as_str(), prefixes.as_str()), ("B a b0 d é", "b/ c/"));
    let (keys, prefixes, _) = list("c/", Some("/"), "", 1000).await;
    assert_eq!((keys.as_str(), prefixes.as_str()), ("c/y", "c/x/"));
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let (keys, prefixes, next) = list("", Some("/"), &after, 2).await;
        seen.extend([keys, prefixes]);
        match next {
            Some(next) => after = next,
            None => break,
        }
    }
    seen.retain(|part| !part.is_empty());
    assert_eq!(seen.join(" "), "B a b0 b/ d c/ é");
    assert_eq!(list("", None, "", 0).await, (String::new(), String::new(), None));
}

#[tokio::test]
async fn an_upload_in_parts_becomes_one_object_without_copying() {
    let house = House::open().await;
    let plan = ChecksumPlan { algorithm: ChecksumAlgorithm::Crc32, kind: ChecksumKind::FullObject };
    let (objects, bucket) = (&house.objects, &house.bucket);
    let big = key("big");
    let start = objects.create_upload(bucket, &big, Traits::default(), Some(plan));
    let upload = start.await.unwrap();
    let large = vec![7; usize::try_from(PART_BYTES_MIN).unwrap()];
    let mut named = Vec::new();
    for (number, bytes) in [(2, &b"stale"[..]), (2, &large), (5, &large), (9, b"end"), (7, b"no")] {
        let part = objects.put_part(&upload, number, house.written(bytes).await).await.unwrap();
        if number != 7 && bytes != b"stale" {
            named.push(CompletedPart { number, etag: part.etag, checksum: None });
        }
    }
    let fails = |parts: Vec<CompletedPart>| {
        let upload = &upload;
        async move {
            let completion = Completion { parts, ..Default::default() };
            objects.complete(bucket, upload, &completion).await.unwrap_err()
        }
    };
    let backwards = named.iter().rev().cloned().collect();
    assert!(matches!(fails(backwards).await, ObjectsError::InvalidPartOrder));
    let mut wrong = named.clone();
    wrong[0].etag = "0".repeat(32);
    assert!(matches!(fails(wrong).await, ObjectsError::InvalidPart(2)));

    let completion = Completion { parts: named, ..Default::default() };
    let object = objects.complete(bucket, &upload, &completion).await.unwrap();
    assert_eq!(object.size, 2 * PART_BYTES_MIN + 3);
    assert!(object.etag.ends_with("-3") && object.parts == Some(3), "{object:?}");
    let whole = [&large[..], &large, b"end"].concat();
    assert_eq!(house.bytes(&object, 0..object.size).await, whole);
    let single = house.written(&whole).await;
    let sum = |checksum: &Option<objects::Checksum>| checksum.as_ref().unwrap().value.clone();
    assert_eq!(sum(&object.checksum), sum(&single.checksum));
    drop(single);
    assert_eq!(house.files(), 3);

    let source =
        CopySource { bucket: bucket.clone(), object: object.clone(), range: 0..object.size };
    let to = key("copy");
    let copied = objects.copy(&source, (bucket, &to), Traits::default(), &Condition::None).await;
    let copied = copied.unwrap();
    objects.delete(bucket, &object.key, &Condition::None).await.unwrap();
    assert_eq!(house.bytes(&copied, 0..copied.size).await, whole);
    assert_eq!(copied.etag, object.etag);
    let source = CopySource {
        bucket: bucket.clone(),
        object: copied,
        range: PART_BYTES_MIN * 2 - 1..PART_BYTES_MIN * 2 + 2,
    };
    let piece = objects.copy_range(&source, None).await.unwrap();
    let piece = objects
        .put((bucket, &key("piece")), Traits::default(), piece, &Condition::None)
        .await
        .unwrap();
    assert_eq!(house.bytes(&piece, 0..piece.size).await, b"\x07en");
}

#[tokio::test]
async fn an_upload_that_is_given_up_leaves_nothing() {
    let house = House::open().await;
    let (objects, bucket) = (&house.objects, &house.bucket);
    let upload = objects.create_upload(bucket, &key("a"), Traits::default(), None).await.unwrap();
    objects.put_part(&upload, 1, house.written(b"part").await).await.unwrap();
    let query = objects::UploadQuery { items_max: 1, ..Default::default() };
    let listed = objects.uploads(bucket, &query);
    assert_eq!(listed.await.unwrap().uploads, std::slice::from_ref(&upload));
    assert!(objects.abort(bucket, &key("b"), &upload.id).await.is_err());
    objects.abort(bucket, &key("a"), &upload.id).await.unwrap();
    let late = objects.put_part(&upload, 1, house.written(b"part").await).await.unwrap_err();
    assert!(matches!(late, ObjectsError::NoSuchUpload(_)));
    assert_eq!(house.files(), 0);
    objects.delete_bucket(bucket).await.unwrap();
}
