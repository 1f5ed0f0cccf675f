//! The product against plain chains of fused multiply-adds, at every vector level.

use super::*;
use speech::random::Stream;

fn random(stream: &mut Stream, elements: usize) -> Vec<f32> {
    (0..elements)
        .map(|_| stream.between(-1.0, 1.0) as f32)
        .collect()
}

/// One chain of fused multiply-adds an element, as the module promises.
fn chains(a: &[f32], b: &[f32], start: &[f32], rows: usize, depth: usize) -> Vec<f32> {
    let columns = b.len() / depth.max(1);
    (0..rows * columns)
        .map(|i| {
            let (r, n) = (i / columns, i % columns);
            (0..depth).fold(start[i], |sum, k| {
                a[r * depth + k].mul_add(b[k * columns + n], sum)
            })
        })
        .collect()
}

fn transpose(values: &[f32], rows: usize) -> Vec<f32> {
    let columns = values.len() / rows;
    (0..values.len())
        .map(|i| values[(i % rows) * columns + i / rows])
        .collect()
}

#[test]
fn every_level_layout_and_start_computes_the_same_chains() {
    let mut stream = Stream::new(1, &[]);
    for (rows, depth, columns) in [
        (1, 1, 1),
        (3, 5, 31),
        (8, 256, 32),
        (16, 257, 33),
        (67, 300, 70),
        (130, 7, 96),
        (26, 1030, 40),
        (397, 40, 33),
    ] {
        let a = random(&mut stream, rows * depth);
        let b = random(&mut stream, depth * columns);
        let bias = random(&mut stream, columns);
        let old = random(&mut stream, rows * columns);
        let (at, bt) = (transpose(&a, rows), transpose(&b, depth));
        let repeated = bias.repeat(rows);
        let zero = vec![0.0; rows * columns];
        for level in Level::available() {
            for right in [
                Panels::pack(&b, depth, columns),
                Panels::transpose(&bt, depth, columns),
            ] {
                for left in [Left::rows(&a, depth), Left::transposed(&at, rows)] {
                    for (start, begin) in [
                        (Addend::Zero, &zero),
                        (Addend::Row(&bias), &repeated),
                        (Addend::Result, &old),
                    ] {
                        let expected = chains(&a, &b, begin, rows, depth);
                        let mut result = old.clone();
                        multiply(level, left, &right, start, &mut result, columns, rows);
                        assert_eq!(result, expected, "{level:?} {rows}x{depth}x{columns}");
                        let mut result = old.clone();
                        multiply_parallel(level, left, &right, start, &mut result, columns);
                        assert_eq!(result, expected, "{level:?} {rows}x{depth}x{columns}");
                    }
                }
            }
        }
    }
}

#[test]
fn columns_beside_the_result_are_left_alone() {
    let right = Panels::pack(&[1.0, 2.0], 1, 2);
    let mut result = vec![7.0; 9];
    multiply(
        Level::detect(),
        Left::rows(&[1.0, 10.0], 1),
        &right,
        Addend::Zero,
        &mut result,
        5,
        2,
    );
    assert_eq!(result, [1.0, 2.0, 7.0, 7.0, 7.0, 10.0, 20.0, 7.0, 7.0]);
}
