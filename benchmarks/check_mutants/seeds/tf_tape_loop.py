import tensorflow as tf
from tensorflow import keras


def train(model, dataset, epochs=3):
    optimizer = keras.optimizers.SGD(learning_rate=1e-2)
    loss_fn = keras.losses.CategoricalCrossentropy(from_logits=True)
    for epoch in range(epochs):
        for step, (x_batch, y_batch) in enumerate(dataset):
            with tf.GradientTape() as tape:
                logits = model(x_batch, training=True)
                loss_value = loss_fn(y_batch, logits)
            grads = tape.gradient(loss_value, model.trainable_weights)
            optimizer.apply_gradients(zip(grads, model.trainable_weights))
            if step % 200 == 0:
                print(step, float(loss_value))


inputs, classes = tf.random.normal((512, 20)), tf.one_hot(tf.random.uniform((512,), maxval=10, dtype=tf.int32), 10)
net = keras.Sequential([keras.layers.Dense(64, activation="relu"), keras.layers.Dense(10)])
train(net, tf.data.Dataset.from_tensor_slices((inputs, classes)).batch(32))
