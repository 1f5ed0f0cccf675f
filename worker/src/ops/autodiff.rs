//! Registration of an operator with burn's differentiation, the same for every operator and backend. An operator
//! computes forward, keeps what its backward pass needs in a type that implements [`Saved`], and calls [`register`].

use std::fmt::Debug;
use std::marker::PhantomData;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend};
use burn_autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{NodeGuard, Ops, OpsKind};

/// What an operator with `N` inputs keeps for its backward pass, and that pass.
pub(super) trait Saved<B: Backend, const N: usize>: Clone + Debug + Send + 'static {
    /// The gradients of the loss with respect to the inputs, given `output_grad`, the one with respect to the output.
    /// Those that are not `wanted` need not be computed.
    fn backward(
        self,
        output_grad: FloatTensor<B>,
        wanted: [bool; N],
    ) -> [Option<FloatTensor<B>>; N];
}

/// The operator whose forward pass kept an `S`, in the differentiation graph.
#[derive(Debug)]
struct Operator<S>(PhantomData<fn() -> S>);

impl<B, S, const N: usize> burn_autodiff::ops::Backward<B, N> for Operator<S>
where
    B: Backend,
    S: Saved<B, N>,
{
    type State = S;

    fn backward(self, ops: Ops<S, N>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let output_grad = gradients.consume::<B>(&ops.node);
        let wanted = ops.parents.each_ref().map(Option::is_some);
        let found = ops.state.backward(output_grad, wanted);
        for (input, gradient) in ops.parents.into_iter().zip(found) {
            if let (Some(input), Some(gradient)) = (input, gradient) {
                gradients.register::<B>(input.id, gradient);
            }
        }
    }
}

/// `output` as a node of the graph that its `inputs` are of, which is differentiated by `saved`. The guards are
/// taken (`node()`) before the inputs are turned into primitives.
pub(super) fn register<B, C, S, const N: usize>(
    inputs: [NodeGuard; N],
    output: FloatTensor<B>,
    saved: S,
) -> FloatTensor<Autodiff<B, C>>
where
    B: Backend,
    C: CheckpointStrategy,
    S: Saved<B, N>,
{
    let operator = Operator::<S>(PhantomData);
    let prepared = burn_autodiff::ops::Backward::<B, N>::prepare::<C>(operator, inputs);
    match prepared.compute_bound().stateful() {
        OpsKind::Tracked(prepared) => prepared.finish(saved, output),
        OpsKind::UnTracked(prepared) => prepared.finish(output),
    }
}
