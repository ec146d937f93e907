import keras
from keras import layers


def build(shape, n_classes):
    inputs = keras.Input(shape=shape)
    x = layers.Conv2D(32, 3, activation="relu")(inputs)
    x = layers.GlobalAveragePooling2D()(x)
    outputs = layers.Dense(n_classes, activation="softmax")(x)
    return keras.Model(inputs, outputs)


def main():
    (x, y), _ = keras.datasets.cifar10.load_data()
    model = build((32, 32, 3), 10)
    model.compile(optimizer=keras.optimizers.Adam(1e-3), loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x / 255.0, y, batch_size=64, epochs=10, validation_split=0.1)


main()
