//! The executor: slicing long work, sharing a device among threads, the ledger.

use longtake::gpu::{Device, Purpose, TierRequest};
use longtake::ops::{KvFormat, KvStore, Norm, NormMode, kv_store, mix, norm};

use crate::support::{Out, device, input, open, run, values};

fn work(device: &Device) -> (Vec<f32>, Vec<u32>) {
    let (n_rows, channels) = (37, 64);
    let (x, y) = (
        input(device, &values(1, n_rows * channels)),
        Out::unwritten(device, n_rows * channels),
    );
    let z = input(device, &values(2, n_rows * channels));
    let (k, v) = (
        Out::unwritten(device, n_rows * channels / 2),
        Out::unwritten(device, n_rows * channels / 2),
    );
    run(device, |rec| {
        let mode = NormMode::Plain;
        norm(
            rec,
            &Norm {
                x: &x,
                y: &y.buffer,
                n_rows,
                channels,
                rows_per_frame: 1,
                eps: 1e-6,
                mode,
            },
        );
        // Many small dispatches in a row: more than one submit's params.
        for _ in 0..600 {
            mix(rec, &y.buffer, &z, 0.5, 0.25);
        }
        let store = KvStore {
            k_src: &y.buffer,
            v_src: &x,
            at: (0, 0),
            src_stride: channels,
            src_row: 0,
            n_rows,
            channels,
            k: &k.buffer,
            v: &v.buffer,
            dst_row: 0,
            format: KvFormat::F16,
        };
        kv_store(rec, &store);
    });
    (y.read(device), k.read(device))
}

#[test]
fn slicing_work_into_submits_changes_nothing() {
    let (Some(whole), Some(sliced)) = (device(), open(TierRequest::Best)) else {
        return;
    };
    let want = work(whole);
    assert!(want.0.iter().all(|v| v.is_finite()));
    for budget in [1, 3000] {
        sliced.limit_submit_work(budget);
        assert!(work(&sliced) == want, "budget {budget}");
    }
}

#[test]
fn threads_may_share_a_device() {
    let Some(device) = device() else { return };
    let want = work(device);
    std::thread::scope(|s| {
        let all: Vec<_> = (0..4).map(|_| s.spawn(|| work(device) == want)).collect();
        assert!(all.into_iter().all(|t| t.join().unwrap()));
    });
}

#[test]
fn ledger_returns_to_where_it_was() {
    let Some(device) = open(TierRequest::Portable) else {
        return;
    };
    let before = device.ledger().total();
    {
        let buffer = device.zeros::<f32>(Purpose::Cache, "cache", 1000).unwrap();
        assert_eq!(
            (device.ledger().bytes(Purpose::Cache), buffer.bytes()),
            (4000, 4000)
        );
        assert!(device.read_all(&buffer).unwrap().iter().all(|v| *v == 0.0));
    }
    assert_eq!(
        (
            device.ledger().total(),
            device.ledger().peak_of(Purpose::Cache)
        ),
        (before, 4000)
    );
}

#[test]
fn a_buffer_beyond_the_limits_is_refused_by_name() {
    let Some(device) = open(TierRequest::Portable) else {
        return;
    };
    let n = device.caps().max_storage_bytes() as usize / 4 + 1;
    let error = device
        .zeros::<f32>(Purpose::Cache, "a long page", n)
        .unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("a long page needs one buffer of 134217732 bytes"),
        "{error}"
    );
}
